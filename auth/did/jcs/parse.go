package jcs

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Parse reads one JSON value: a map[string]any, []any, string, float64, bool or nil.
func Parse(text []byte) (any, error) {
	p := &parser{text: text}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) {
		return nil, p.fail("bytes after the value")
	}
	return v, nil
}

// Object is Parse of a JSON object.
func Object(text []byte) (map[string]any, error) {
	v, err := Parse(text)
	if err != nil {
		return nil, err
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("not a JSON object: %w", ErrInvalid)
	}
	return o, nil
}

type parser struct {
	text []byte
	at   int
}

func (p *parser) fail(why string) error {
	return fmt.Errorf("%s at byte %d: %w", why, p.at, ErrInvalid)
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// peek is the next byte after white space, or 0 at the end.
func (p *parser) peek() byte {
	if p.space(); p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *parser) value(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, p.fail("nested too deep")
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.str()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for word, v := range map[string]any{"true": true, "false": false, "null": nil} {
		if rest := p.text[p.at:]; len(rest) >= len(word) && string(rest[:len(word)]) == word {
			p.at += len(word)
			return v, nil
		}
	}
	return nil, p.fail("no value")
}

func (p *parser) object(depth int) (any, error) {
	o := make(map[string]any)
	p.at++
	if p.peek() == '}' {
		p.at++
		return o, nil
	}
	for {
		if p.peek() != '"' {
			return nil, p.fail("no name")
		}
		name, err := p.str()
		if err != nil {
			return nil, err
		}
		if _, twice := o[name]; twice {
			return nil, p.fail(fmt.Sprintf("member %.80q twice", name))
		}
		if p.peek() != ':' {
			return nil, p.fail("no colon")
		}
		p.at++
		if o[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		switch p.peek() {
		case ',':
			p.at++
		case '}':
			p.at++
			return o, nil
		default:
			return nil, p.fail("no end of the object")
		}
	}
}

func (p *parser) array(depth int) (any, error) {
	a := []any{}
	p.at++
	if p.peek() == ']' {
		p.at++
		return a, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
		switch p.peek() {
		case ',':
			p.at++
		case ']':
			p.at++
			return a, nil
		default:
			return nil, p.fail("no end of the array")
		}
	}
}

func (p *parser) digits() bool {
	from := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	return p.at > from
}

func (p *parser) next(chars string) bool {
	for i := range len(chars) {
		if p.at < len(p.text) && p.text[p.at] == chars[i] {
			p.at++
			return true
		}
	}
	return false
}

func (p *parser) number() (any, error) {
	from := p.at
	p.next("-")
	if !p.next("0") && !p.digits() {
		return nil, p.fail("no digits")
	}
	if p.next(".") && !p.digits() {
		return nil, p.fail("no digits")
	}
	if p.next("eE") {
		p.next("+-")
		if !p.digits() {
			return nil, p.fail("no digits")
		}
	}
	f, err := strconv.ParseFloat(string(p.text[from:p.at]), 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, p.fail("number out of range")
	}
	return f, nil
}

func (p *parser) str() (string, error) {
	p.at++
	var out []byte
	for {
		if p.at >= len(p.text) {
			return "", p.fail("no end of the string")
		}
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return string(out), nil
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		case c < 0x20:
			return "", p.fail("control character in a string")
		case c < utf8.RuneSelf:
			out = append(out, c)
			p.at++
		default:
			r, n := utf8.DecodeRune(p.text[p.at:])
			if r == utf8.RuneError && n <= 1 {
				return "", p.fail("no UTF-8")
			}
			out = append(out, p.text[p.at:p.at+n]...)
			p.at += n
		}
	}
}

func (p *parser) escape() (rune, error) {
	if p.at+1 >= len(p.text) {
		return 0, p.fail("no end of the escape")
	}
	c := p.text[p.at+1]
	if c == 'u' {
		r, err := p.unit()
		if err != nil || !utf16.IsSurrogate(r) {
			return r, err
		}
		low, err := p.unit()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return 0, p.fail("half a surrogate pair")
		}
		return r, nil
	}
	p.at += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	}
	return 0, p.fail("unknown escape")
}

// unit reads \uXXXX.
func (p *parser) unit() (rune, error) {
	if p.at+6 > len(p.text) || p.text[p.at] != '\\' || p.text[p.at+1] != 'u' {
		return 0, p.fail("half a surrogate pair")
	}
	var r rune
	for _, c := range p.text[p.at+2 : p.at+6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, p.fail("escape without four hex digits")
		}
		r = r<<4 | rune(c)
	}
	p.at += 6
	return r, nil
}
