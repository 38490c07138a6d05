package webvh

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

type approval struct {
	version string
	by      []signer
}

func witnessFile(t *testing.T, list ...approval) []byte {
	t.Helper()
	out := []any{}
	for _, a := range list {
		proofs := []any{}
		for _, s := range a.by {
			p, err := SignWitness(context.Background(), a.version, s, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			proofs = append(proofs, p)
		}
		out = append(out, object{"versionId": a.version, "proof": proofs})
	}
	b, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWitnesses(t *testing.T) {
	a, w1, w2, w3, x := testSigner(1), testSigner(11), testSigner(12), testSigner(13), testSigner(14)
	// 1: two of three. 2: nothing new. 3: one other. 4: nobody. 5: unwitnessed. 6: again.
	f := newForger(t).add(genesis(a, "witness", witnesses(2, w1, w2, w3)), nil, a).add(object{}, nil, a).
		add(object{"witness": witnesses(1, x)}, nil, a).add(object{"witness": object{}}, nil, a).add(object{}, nil, a).
		add(object{"witness": witnesses(1, w1)}, nil, a)
	v := func(n int) string { return f.version(n) }
	foreign := "9-" + anySCID
	for name, c := range map[string]struct {
		holds int // entries
		file  []byte
	}{
		"all, each by its own":     {6, witnessFile(t, approval{v(1), []signer{w1, w2}}, approval{v(2), []signer{w2, w3}}, approval{v(3), []signer{w1, w3}}, approval{v(4), []signer{x}}, approval{v(6), []signer{w1}})},
		"pruned":                   {6, witnessFile(t, approval{v(3), []signer{w3, w2}}, approval{v(4), []signer{x}}, approval{v(6), []signer{w1}})},
		"later ones count":         {6, witnessFile(t, approval{v(5), []signer{w3, w2, x}}, approval{v(6), []signer{w1}})},
		"any order":                {6, witnessFile(t, approval{v(6), []signer{w1}}, approval{v(5), []signer{x, w2, w3, w1}})},
		"no new one in 6":          {5, witnessFile(t, approval{v(5), []signer{w3, w2, x}})},
		"3 by the new":             {2, witnessFile(t, approval{v(2), []signer{w1, w2}}, approval{v(6), []signer{x, w1}})},
		"4 by the old":             {3, witnessFile(t, approval{v(4), []signer{w1, w2}}, approval{v(6), []signer{w1}})},
		"one of two":               {0, witnessFile(t, approval{v(6), []signer{w1, x}})},
		"one twice":                {0, witnessFile(t, approval{v(1), []signer{w1, w1}}, approval{v(2), []signer{w1}})},
		"strangers":                {0, witnessFile(t, approval{v(1), []signer{a, testSigner(15)}})},
		"empty list":               {0, []byte("[]")},
		"nothing":                  {0, nil},
		"no JSON":                  {0, []byte("x")},
		"no list":                  {0, []byte("{}")},
		"odd items":                {0, []byte(`[1,null,"x",[],{"versionId":1},{"versionId":"` + v(1) + `"},{"versionId":"` + v(1) + `","proof":[1,{}]}]`)},
		"unpublished":              {0, witnessFile(t, approval{foreign, []signer{w1, w2, w3, x}})},
		"same number, other entry": {0, witnessFile(t, approval{"6-" + anySCID, []signer{w1, w2, w3, x}})},
		"too large":                {0, []byte("[" + strings.Repeat(" ", MaxWitness) + "]")},
		"proof of another version": {0, []byte(strings.ReplaceAll(string(witnessFile(t, approval{v(1), []signer{w1, w2}})), v(1), v(2)))},
		"bad proofs beside good": {6, []byte(strings.Replace(string(witnessFile(t, approval{v(5), []signer{w3, w2, x}}, approval{v(6), []signer{w1}})),
			`"proof":[`, `"proof":[{"type":"x"},null,`, 1))},
	} {
		l, err := Verifier{}.Verify(context.Background(), f.log(), c.file)
		if c.holds == 0 {
			if l != nil || !errors.Is(err, did.ErrInvalid) || !strings.Contains(err.Error(), KindWitness) {
				t.Errorf("%s: %v, %v", name, l, err)
			}
			continue
		}
		if err != nil || l.Len() != c.holds || (l.Failure() == nil) != (c.holds == len(f.lines)) {
			t.Errorf("%s: %v, %v, want %d entries", name, l, err, c.holds)
		}
	}
}

// A wide change of the witnesses is never approved by the new ones.
func TestNarrowWitnesses(t *testing.T) {
	a, w1, w2, x := testSigner(1), testSigner(11), testSigner(12), testSigner(13)
	for name, c := range map[string]struct {
		next object
		ok   bool
	}{
		"one left out":   {witnesses(1, w1), true},
		"another one":    {witnesses(1, x), false},
		"one and other":  {witnesses(1, w1, x), false},
		"lower only":     {witnesses(1, w1, w2), false},
		"nobody anymore": {object{}, false},
	} {
		f := newForger(t).add(genesis(a, "witness", witnesses(2, w1, w2)), nil, a).add(object{"witness": c.next}, nil, a)
		file := witnessFile(t, approval{f.version(1), []signer{w1, w2}}, approval{f.version(2), []signer{w1, x}})
		if l, err := (Verifier{NarrowWitnesses: true}).Verify(context.Background(), f.log(), file); err != nil || (l.Failure() == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if l, err := (Verifier{}).Verify(context.Background(), f.log(), file); err != nil || l.Failure() == nil {
			t.Errorf("%s to the letter: %v", name, err)
		}
	}
}

func TestAddWitness(t *testing.T) {
	ctx := context.Background()
	a, w1, w2 := testSigner(1), testSigner(11), testSigner(12)
	f := newForger(t).add(genesis(a, "witness", witnesses(2, w1, w2)), nil, a).add(object{}, nil, a)
	// The second entry is witnessed before it is published: the old proofs must stay.
	whole, err := Verifier{}.entries(ctx, f.lines)
	if err != nil {
		t.Fatal(err)
	}
	first, err := Verifier{}.entries(ctx, f.lines[:1])
	if err != nil {
		t.Fatal(err)
	}
	if n := whole.Needs(2); n.Threshold != 2 || len(n.IDs) != 2 {
		t.Errorf("needs %+v", n)
	}
	var file []byte
	for n := 1; n <= 2; n++ {
		for _, w := range []signer{w1, w2} {
			p, err := SignWitness(ctx, f.version(n), w, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if file, err = AddWitness(file, first, f.version(n), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, lines := range [][][]byte{f.lines[:1], f.lines} {
		log := (&forger{lines: lines}).log()
		if l, err := (Verifier{}).Verify(ctx, log, file); err != nil || l.Failure() != nil {
			t.Errorf("%d entries: %v", len(lines), err)
		}
	}
	// Once it is published, the older proofs go.
	p, err := SignWitness(ctx, f.version(2), w1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pruned, err := AddWitness(file, whole, f.version(2), p)
	if err != nil || len(pruned) >= len(file)+200 || strings.Count(string(pruned), w1.id()) != strings.Count(string(file), w1.id()) {
		t.Errorf("%v: %s", err, pruned)
	}
	if l, err := (Verifier{}).Verify(ctx, f.log(), pruned); err != nil || l.Failure() != nil {
		t.Errorf("pruned: %v", err)
	}
	if _, err := SignWitness(ctx, "1-x", w1, time.Now()); !errors.Is(err, did.ErrInvalid) {
		t.Errorf("no version: %v", err)
	}
}
