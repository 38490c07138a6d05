package webvh

import (
	"context"
	"testing"
)

// A long log: a change each day for three years.
func BenchmarkVerify(b *testing.B) {
	ctx := context.Background()
	s := testSigner(1)
	state, err := Document(prefix+placeholder+":example.com", change(s))
	if err != nil {
		b.Fatal(err)
	}
	v := Verifier{Now: clock()}
	l, err := v.Create(ctx, Draft{State: state, UpdateKeys: []string{s.multikey()}}, s)
	if err != nil {
		b.Fatal(err)
	}
	for range 1000 {
		if l, err = v.Append(ctx, l, Draft{}, s); err != nil {
			b.Fatal(err)
		}
	}
	log := l.Bytes()
	b.SetBytes(int64(len(log)))
	b.ReportAllocs()
	for b.Loop() {
		if l, err := (Verifier{}).Verify(ctx, log, nil); err != nil || l.Failure() != nil {
			b.Fatal(err)
		}
	}
}
