package jcs

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVectors(t *testing.T) {
	inputs, err := filepath.Glob("testdata/input/*.json")
	if err != nil || len(inputs) < 6 {
		t.Fatalf("%d vectors, %v", len(inputs), err)
	}
	for _, in := range inputs {
		text, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata/output", filepath.Base(in)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Canonical(text)
		if err != nil || !bytes.Equal(got, bytes.TrimRight(want, "\n")) {
			t.Errorf("%s: %v\n got %s\nwant %s", in, err, got, want)
		}
	}
}

// Appendix B of RFC 8785.
func TestNumbers(t *testing.T) {
	for bits, want := range map[uint64]string{
		0x0000000000000000: "0",
		0x8000000000000000: "0",
		0x0000000000000001: "5e-324",
		0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308",
		0xffefffffffffffff: "-1.7976931348623157e+308",
		0x4340000000000000: "9007199254740992",
		0xc340000000000000: "-9007199254740992",
		0x4430000000000000: "295147905179352830000",
		0x44b52d02c7e14af5: "9.999999999999997e+22",
		0x44b52d02c7e14af6: "1e+23",
		0x44b52d02c7e14af7: "1.0000000000000001e+23",
		0x444b1ae4d6e2ef4e: "999999999999999700000",
		0x444b1ae4d6e2ef4f: "999999999999999900000",
		0x444b1ae4d6e2ef50: "1e+21",
		0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7",
		0x3eb0c6f7a0b5ed8d: "0.000001",
		0x41b3de4355555553: "333333333.3333332",
		0x41b3de4355555554: "333333333.33333325",
		0x41b3de4355555555: "333333333.3333333",
		0x41b3de4355555556: "333333333.3333334",
		0x41b3de4355555557: "333333333.33333343",
		0xbecbf647612f3696: "-0.0000033333333333333333",
		0x43143ff3c1cb0959: "1424953923781206.2",
	} {
		got, err := Marshal(math.Float64frombits(bits))
		if err != nil || string(got) != want {
			t.Errorf("%#x: got %s, %v, want %s", bits, got, err, want)
		}
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := Marshal(f); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", f, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		``, ` `, `{`, `}`, `[`, `[1,]`, `[1 2]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a":1 "b":2}`,
		`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `nul`, `truee`, `01`, `-`, `1.`, `.5`, `1e`, `+1`, `1e999`, `0x1`,
		`"`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\ud800"`, `"\udc00"`, `"\ud800\u0041"`, `"\ud800x"`, "\"\x01\"", "\"\xff\"",
		"\"\xed\xa0\x80\"", `1 2`, `[]]`, "\ufeff1", strings.Repeat("[", MaxDepth+2) + strings.Repeat("]", MaxDepth+2),
	} {
		if v, err := Parse([]byte(text)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %v, %v", text, v, err)
		}
	}
	if _, err := Object([]byte(`[]`)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a list as object: %v", err)
	}
	if _, err := Marshal(struct{}{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a struct: %v", err)
	}
	if _, err := Marshal("\xff"); !errors.Is(err, ErrInvalid) {
		t.Errorf("no UTF-8: %v", err)
	}
}

// What is canonical stays as it is.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"b":[1e3,"\u00e9",null],"a":{"😂":-0.0,"ﬁ":true}}`, `"\ud83d\ude02"`, `[]`, `1e-7`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		once, err := Canonical(text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error without a meaning: %v", err)
			}
			return
		}
		twice, err := Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q, then %q, %v", text, once, twice, err)
		}
	})
}
