package printable

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestWhatATerminalObeys(t *testing.T) {
	for _, c := range []struct{ in, text, line string }{
		{"plain ASCII", "", ""},
		{"Grüße, 世界, שלום, مرحبا", "", ""},
		{"two\nlines\tand a tab", "two\nlines\tand a tab", `two\nlines\tand a tab`},
		{"\x1b]0;title\a", `\u001b]0;title\u0007`, ""},
		{"\x1b]52;c;cm0=\x1b\\", `\u001b]52;c;cm0=\u001b\`, ""},
		{"\u009b31m", `\u009b31m`, ""}, // C1: the same as ESC [
		{"\x9b31m", "\uFFFD31m", ""},   // the byte alone is no UTF-8
		{"a\rb\bc\x7f", `a\rb\u0008c\u007f`, ""},
		{"photo\u202egpj.exe", `photo\u202egpj.exe`, ""},
		{"\u2066x\u2069\u200e\u200f\u061c", `\u2066x\u2069\u200e\u200f\u061c`, ""},
		{"a\u2028b\u2029c", `a\u2028b\u2029c`, ""},
		{"pay\u200dpal\u200b\ufeff\u00ad", `pay\u200dpal\u200b\ufeff\u00ad`, ""},
		{"می\u200cخواهم 👩\u200d🚀", "", ""}, // joiners that belong there
		{"\U000e0041", `\udb40\udc41`, ""}, // a tag, invisible
		{"\uFFFD stays", "", ""},
		{"\xff\xfe", "\uFFFD\uFFFD", ""},
		{"", "", ""},
	} {
		if c.text == "" {
			c.text = c.in
		}
		if c.line == "" {
			c.line = c.text
		}
		if got := Text(c.in); got != c.text {
			t.Errorf("Text(%q) = %q, want %q", c.in, got, c.text)
		}
		if got := Line(c.in); got != c.line {
			t.Errorf("Line(%q) = %q, want %q", c.in, got, c.line)
		}
	}
}

// JSON that went through the filter is JSON, and says the same.
func TestJSONStaysJSON(t *testing.T) {
	in := map[string]string{"name": "a\x1b]0;x\a\u202e\u009b\x7f\U000e0041 \"q\" <b> é\n\t"}
	var out bytes.Buffer
	if err := json.NewEncoder(NewWriter(&out)).Encode(in); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); strings.ContainsFunc(s, obeyed) {
		t.Errorf("in the output: %q", s)
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["name"] != in["name"] {
		t.Errorf("decoded: %q, %v", back["name"], err)
	}
}

// A rune that is written in parts is one rune; the bytes written are those that were given.
func TestRunesInParts(t *testing.T) {
	in := "é世👩\u202e\x1b[0m\xff!"
	for size := 1; size < len(in); size++ {
		var out bytes.Buffer
		w := NewWriter(&out)
		for rest := in; rest != ""; {
			n := min(size, len(rest))
			if got, err := w.Write([]byte(rest[:n])); got != n || err != nil {
				t.Fatal(got, err)
			}
			rest = rest[n:]
		}
		if out.String() != Text(in) {
			t.Errorf("in parts of %d: %q, want %q", size, out.String(), Text(in))
		}
	}
}

func TestRawAndErrors(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out)
	if _, err := w.Raw([]byte("\x1b[2J")); err != nil || out.String() != "\x1b[2J" {
		t.Errorf("raw: %q, %v", out.String(), err)
	}
	if _, err := NewWriter(broken{}).Write([]byte("x")); !errors.Is(err, errBroken) {
		t.Errorf("an error of the writer below: %v", err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// obeyed is a second, blunter definition of what must never pass.
func obeyed(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069,
		r == 0x200e, r == 0x200f, r == 0x061c, r == 0x2028, r == 0x2029, r == 0x200b, r == 0xfeff:
		return true
	}
	return false
}

func FuzzFilter(f *testing.F) {
	f.Add("\x1b]0;x\a", 1)
	f.Add("é\u202e\u009b\xff\xe4\xb8", 2)
	f.Add("a\u200db\n\t\r\u2028", 3)
	f.Fuzz(func(t *testing.T, s string, cut int) {
		text, line := Text(s), Line(s)
		for _, got := range []string{text, line} {
			if !utf8.ValidString(got) || strings.ContainsFunc(got, obeyed) {
				t.Fatalf("%q became %q", s, got)
			}
		}
		if strings.ContainsAny(line, "\n\t") {
			t.Fatalf("%q has lines: %q", s, line)
		}
		if Text(text) != text || Line(line) != line {
			t.Fatalf("filtering %q twice is not filtering it once", s)
		}
		// Through a writer, in two parts. What is no UTF-8 at the end waits for ever.
		if len(s) > 0 && utf8.ValidString(s) {
			n := (cut%len(s) + len(s)) % len(s)
			var out bytes.Buffer
			w := NewWriter(&out)
			_, _ = w.Write([]byte(s[:n]))
			_, _ = w.Write([]byte(s[n:]))
			if out.String() != text {
				t.Fatalf("%q written in two parts: %q, want %q", s, out.String(), text)
			}
		}
	})
}
