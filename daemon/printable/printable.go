// Package printable makes text that came from somebody else safe to show on a terminal, in
// a log and on a page.
//
// A terminal obeys what it is sent: a peer that calls itself "\x1b]52;c;…\a" would write
// the reader's clipboard, and a bidirectional control would show a path as another one.
// What is obeyed is replaced by an escape that can be read, in the form that JSON has for
// it (\u001b). So the same filter is right for text and for JSON: a program that decodes
// the JSON gets the original text.
//
// Text keeps newlines and tabs, which our own layout is made of. Line is for one value that
// stands in a line of ours: it escapes them too, so that a value cannot add a line to a log
// or to the output of a command.
//
// The package imports nothing of this project. It never writes anywhere by itself.
package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns s with everything escaped that a terminal would obey. Newlines and tabs
// stay.
func Text(s string) string { return filter(s, false) }

// Line returns s as part of one line: Text, with newlines and tabs escaped too.
func Line(s string) string { return filter(s, true) }

func filter(s string, line bool) string {
	last := rune(0)
	for i, r := range s {
		if harmless(r, last, line) && (r != utf8.RuneError || strings.HasPrefix(s[i:], "\uFFFD")) {
			last = r
			continue
		}
		var b strings.Builder
		b.Grow(len(s) + 16)
		b.WriteString(s[:i])
		for _, r := range s[i:] { // a byte that is not UTF-8 comes as U+FFFD, and goes as it
			last = put(&b, r, last, line)
		}
		return b.String()
	}
	return s
}

// put writes one rune, escaped if need be, and returns it for the next call.
func put(b *strings.Builder, r, last rune, line bool) rune {
	switch {
	case harmless(r, last, line):
		b.WriteRune(r)
	case r == '\n':
		b.WriteString(`\n`)
	case r == '\t':
		b.WriteString(`\t`)
	case r == '\r':
		b.WriteString(`\r`)
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
	default:
		fmt.Fprintf(b, `\u%04x`, r)
	}
	return r
}

const (
	zeroWidthNonJoiner = '\u200c'
	zeroWidthJoiner    = '\u200d'
)

// harmless says whether a terminal shows a rune and does nothing else. last is the rune
// before it.
func harmless(r, last rune, line bool) bool {
	switch {
	case r == '\n' || r == '\t':
		return !line
	case r < 0x20 || r == 0x7f: // C0 and DEL
		return false
	case r < 0x7f:
		return true
	case r < 0xa0: // C1: 0x9b begins a sequence as ESC [ does
		return false
	case r == zeroWidthJoiner || r == zeroWidthNonJoiner:
		// Persian, the languages of India and emoji are written with them. Inside ASCII they
		// only make two texts look the same.
		return last >= 0xa0
	case unicode.Is(unicode.Prepended_Concatenation_Mark, r): // the Arabic signs for numbers: formats that are seen
		return true
	}
	// Cf has the bidirectional controls and all other characters without a width; Zl and Zp
	// end a line for some readers of logs.
	return !unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}
