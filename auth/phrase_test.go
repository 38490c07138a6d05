package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tyler-smith/go-bip39"
	"github.com/tyler-smith/go-bip39/wordlists"
)

func TestPhraseIsBIP39(t *testing.T) {
	if !slices.IsSorted(wordlists.English) || len(wordlists.English) != 2048 {
		t.Fatal("the list of words is not what the search wants")
	}
	for i := range 200 {
		entropy := make([]byte, phraseEntropy)
		switch i {
		case 0:
		case 1:
			for j := range entropy {
				entropy[j] = 0xff
			}
		default:
			rand.Read(entropy)
		}
		want, err := bip39.NewMnemonic(entropy)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePhrase([]byte(want))
		if err != nil {
			t.Fatalf("%x: %v", entropy, err)
		}
		if got := strings.Join(p.Words(), " "); got != want {
			t.Fatalf("%x: got %q, want %q", entropy, got, want)
		}
		if !bytes.Equal(p.entropy.bytes(), entropy) {
			t.Fatalf("%x became %x", entropy, p.entropy.bytes())
		}
		p.Wipe()
	}
}

func TestNewPhrase(t *testing.T) {
	p, err := NewPhrase()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wipe()
	q, err := NewPhrase()
	if err != nil {
		t.Fatal(err)
	}
	defer q.Wipe()
	if p.Equal(q) || !p.Equal(p) {
		t.Error("two phrases are the same, or one is not")
	}
	if !bip39.IsMnemonicValid(strings.Join(p.Words(), " ")) {
		t.Error("not a phrase of BIP-39")
	}
}

func TestParsePhraseTolerates(t *testing.T) {
	want := testPhrase(t)
	for name, text := range map[string]string{
		"capitals": strings.ToUpper(zeroWords),
		"lines":    "\n  " + strings.ReplaceAll(zeroWords, " ", "\r\n\t") + "\n\n",
		"no-break": strings.ReplaceAll(zeroWords, " ", "\u00a0"),
	} {
		input := []byte(text)
		p, err := ParsePhrase(input)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !p.Equal(want) || string(input) != text {
			t.Errorf("%s: another phrase, or the input was changed", name)
		}
		p.Wipe()
	}
}

func TestParsePhraseRefuses(t *testing.T) {
	words := strings.Fields(zeroWords)
	with := func(i int, w string) string {
		x := slices.Clone(words)
		x[i] = w
		return strings.Join(x, " ")
	}
	for name, c := range map[string]struct{ text, says string }{
		"empty":        {"", "0 words"},
		"23 words":     {strings.Join(words[1:], " "), "23 words"},
		"25 words":     {zeroWords + " art", "25 words"},
		"12 words":     {"legal winner thank year wave sausage worth useful legal winner thank yellow", "12 words"},
		"first wrong":  {with(0, "abandom"), "word 1 is"},
		"seventh":      {with(6, "hunter2"), "word 7 is"},
		"last wrong":   {with(23, "zzz"), "word 24 is"},
		"other order":  {with(23, "abandon"), "checksum"},
		"another word": {with(3, "zoo"), "checksum"},
		"no ASCII":     {with(2, "äbandon"), "word 3 is"},
	} {
		_, err := ParsePhrase([]byte(c.text))
		if !errors.Is(err, ErrPhrase) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want it to say %q", name, err, c.says)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "abandon")) {
			t.Errorf("%s: the error shows a word: %v", name, err)
		}
	}
}

func TestSecretsPrintNothing(t *testing.T) {
	p := testPhrase(t)
	p.entropy.bytes()[0] = 0xa5 // looks like nothing else
	s := testSession(t)
	copy(s.keys.signing.bytes(), bytes.Repeat([]byte{0xa5}, seedSize))
	for _, v := range []any{p, p.entropy, s, s.keys.signing, struct{ P *Phrase }{p}, []*Phrase{p}, map[string]*secret{"x": p.entropy}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U"} {
			out := strings.ToLower(fmt.Sprintf(verb, v))
			for _, leak := range []string{"a5", "165", "0xa5", "abandon"} {
				if strings.Contains(strings.ReplaceAll(out, s.did, ""), leak) && !strings.Contains(out, "0xc0") {
					t.Errorf("%s of %T shows %q", verb, v, out)
				}
			}
		}
	}
	if b, err := json.Marshal(p); err != nil || string(b) != `"[recovery phrase]"` {
		t.Errorf("JSON %s, %v", b, err)
	}
}
