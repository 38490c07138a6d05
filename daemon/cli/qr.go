package cli

import (
	"fmt"
	"io"
	"strings"

	"rsc.io/qr"
)

// drawQR draws a QR code of a text with half blocks, dark on light whatever the colours of
// the terminal are.
func drawQR(w *output, text string) error {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return fmt.Errorf("QR code: %w", err)
	}
	const margin = 2
	dark := func(x, y int) bool { return code.Black(x, y) } // outside it is light
	for y := -margin; y < code.Size+margin; y += 2 {
		var b strings.Builder
		for x := -margin; x < code.Size+margin; x++ {
			switch up, down := dark(x, y), dark(x, y+1); {
			case up && down:
				b.WriteRune('█')
			case up:
				b.WriteRune('▀')
			case down:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		w.obey(blackOnWhite)
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
		w.obey(usualColours)
		fmt.Fprintln(w)
	}
	return nil
}
