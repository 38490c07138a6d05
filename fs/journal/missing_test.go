package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Each part of a journal that can be missing, empty or cut: that is told, and going on without
// it keeps all records before it, and is not told again.
func TestMissingParts(t *testing.T) {
	segment := func(dir string, i int) string {
		names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
		if err != nil || len(names) < 3 {
			t.Fatal(names, err)
		}
		return names[(i+len(names))%len(names)]
	}
	remove := func(name string) error { return os.Remove(name) }
	empty := func(name string) error { return os.Truncate(name, 0) }
	for _, x := range []struct {
		name  string
		spoil func(dir string) error
		keeps bool // all records
		none  bool // of the records
		after uint64
	}{
		{name: "the tail", spoil: func(dir string) error { return remove(filepath.Join(dir, tailName)) }, keeps: true},
		{name: "an empty tail", spoil: func(dir string) error { return empty(filepath.Join(dir, tailName)) }, keeps: true},
		{name: "a cut tail", spoil: func(dir string) error { return os.Truncate(filepath.Join(dir, tailName), 50) }, keeps: true},
		{name: "the last segment", spoil: func(dir string) error { return remove(segment(dir, -1)) }},
		{name: "an empty last segment", spoil: func(dir string) error { return empty(segment(dir, -1)) }},
		{name: "a cut last segment", spoil: func(dir string) error { return os.Truncate(segment(dir, -1), headerSize+100) }},
		{name: "a middle segment", spoil: func(dir string) error { return remove(segment(dir, 1)) }},
		{name: "an empty middle segment", spoil: func(dir string) error { return empty(segment(dir, 1)) }},
		{name: "a cut middle segment", spoil: func(dir string) error { return os.Truncate(segment(dir, 1), headerSize+100) }},
		{name: "the first segment", spoil: func(dir string) error { return remove(segment(dir, 0)) }, none: true},
		{name: "all segments", spoil: func(dir string) error {
			for range 3 {
				if err := remove(segment(dir, 0)); err != nil {
					return err
				}
			}
			names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
			for _, n := range names {
				err = errors.Join(err, remove(n))
			}
			return err
		}, none: true},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(x.name, func(t *testing.T) {
				dir := tailDir(t)
				j := open(t, dir)
				fill(t, j, 700)
				if killed {
					if err := j.Sync(t.Context(), 700); err != nil {
						t.Fatal(err)
					}
					die(j)
				} else if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				if err := x.spoil(dir); err != nil {
					t.Fatal(err)
				}
				j2, err := Open(j.cfg)
				if err == nil { // without its first segment it can still be right: a commit may have that
					err = j2.Replay(0, func(uint64, []byte) error { return nil })
					j2.Abandon()
				}
				if !errors.Is(err, ErrMissing) {
					t.Fatalf("it is opened without a word: %v", err)
				}
				t.Log(err)
				accepting := j.cfg
				accepting.AcceptMissing = true
				if j2, err = Open(accepting); err != nil {
					t.Fatal(err)
				}
				if x.none {
					if j2.Has(0) && j2.Last() > 0 {
						t.Fatal(j2.Last())
					}
					j2.Abandon()
					return
				}
				last := j2.Last()
				if last == 0 || x.keeps != (last == 700) {
					t.Fatalf("%d records are left", last)
				}
				check(t, j2, 0, last)
				fill(t, j2, 3)
				die(j2)
				j2 = open(t, dir)
				check(t, j2, 0, last+3)
			})
		}
	}
}
