package cli

import (
	"fmt"
	"io"
	"strings"

	"rsc.io/qr"
)

// drawQR draws a QR code of a text with half blocks, dark on light whatever the colours of
// the terminal are.
func drawQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return fmt.Errorf("QR code: %w", err)
	}
	const margin = 2
	dark := func(x, y int) bool { return code.Black(x, y) } // outside it is light
	var b strings.Builder
	for y := -margin; y < code.Size+margin; y += 2 {
		b.WriteString("\x1b[30;107m") // black on white
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
		b.WriteString("\x1b[0m\n")
	}
	_, err = io.WriteString(w, b.String())
	return err
}
