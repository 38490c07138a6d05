package printable

import (
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

// Writer passes on what is written to it as Text has it. A rune may be written in parts.
// Its methods may be called at once from several goroutines.
type Writer struct {
	mu   sync.Mutex
	to   io.Writer
	last rune
	rest []byte // the beginning of a rune whose other bytes are still to come
}

// NewWriter returns a Writer that writes to another one.
func NewWriter(to io.Writer) *Writer { return &Writer{to: to} }

// Write implements io.Writer. It counts the bytes it was given, not those it made of them.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := p
	if len(w.rest) > 0 {
		text = append(w.rest, p...)
		w.rest = nil
	}
	if n := unfinished(text); n > 0 {
		w.rest = append([]byte(nil), text[len(text)-n:]...)
		text = text[:len(text)-n]
	}
	var b strings.Builder
	b.Grow(len(text))
	for _, r := range string(text) {
		w.last = put(&b, r, w.last, false)
	}
	if b.Len() == 0 {
		return len(p), nil
	}
	if _, err := io.WriteString(w.to, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Raw writes what is trusted, or is data, as it is.
func (w *Writer) Raw(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = 0
	return w.to.Write(p)
}

// unfinished is how many bytes at the end are a rune that may go on.
func unfinished(b []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(b)); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
