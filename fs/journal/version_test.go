package journal

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// untar puts a stored journal into a directory.
func untar(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(name, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(name, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A journal of version 1 is read whole, whether its program closed it or was killed, and what
// is written then goes to a segment of today: a program of that time would stop at what it does
// not know, and drop it.
func TestVersion1(t *testing.T) {
	base := tailDir(t)
	untar(t, "testdata/journal-v1.tar", base)
	for _, name := range []string{"killed", "closed"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(base, name)
			cfg := Config{Dir: dir, Derive: testKey(1), SegmentSize: 8 << 10}
			for round := range uint64(2) { // the first one only looks
				j, err := Open(cfg)
				if err != nil {
					t.Fatal(err)
				}
				check(t, j, 0, 11)
				if round == 1 {
					fill(t, j, 3)
				}
				die(j)
			}
			segs, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
			if err != nil || len(segs) != 2 {
				t.Fatal(segs, err)
			}
			for i, want := range []byte{version1, version2} {
				b, err := os.ReadFile(segs[i])
				if err != nil || b[4] != want {
					t.Fatalf("%s has version %d, want %d (%v)", segs[i], b[4], want, err)
				}
			}
			j, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			check(t, j, 0, 14)
			die(j)
		})
	}
}

// A journal of a program to come is named as one, and nothing of it is touched.
func TestLaterVersion(t *testing.T) {
	j := open(t, tailDir(t))
	fill(t, j, 3)
	path, _ := lastSegment(j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[4] = version2 + 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(j.cfg); !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(b) {
		t.Fatal("it was changed", err)
	}
}
