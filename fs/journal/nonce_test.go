package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// nonces collects what was sealed under which key and nonce, out of the files.
type nonces struct {
	// byNumber leaves the hedge out: no number is used twice under one key, even without it.
	byNumber bool
	sealed   map[string][]byte
	keys     map[string]*sealer
}

// verifies tells records from what earlier ones left in the tail.
func (ns *nonces) verifies(t *testing.T, salt []byte, n uint64, record []byte) bool {
	t.Helper()
	k := ns.keys[string(salt)]
	if k == nil {
		var err error
		if k, err = newSealer(version2, testKey(1), salt); err != nil {
			t.Fatal(err)
		}
		ns.keys[string(salt)] = k
	}
	_, _, ok := k.open(n, record[:4], bytes.Clone(record[4:]))
	return ok
}

func (ns *nonces) add(t *testing.T, salt []byte, n uint64, record []byte) {
	t.Helper()
	nonce := append(append([]byte(nil), record[4:4+hedgeSize]...), binary.BigEndian.AppendUint64(nil, n)[2:]...)
	if ns.byNumber {
		nonce = nonce[hedgeSize:]
	}
	id := string(salt) + string(nonce)
	if old, ok := ns.sealed[id]; ok && !bytes.Equal(old, record) {
		t.Fatalf("record %d: two ciphertexts under one key (salt %x) and one nonce %x", n, salt[:4], nonce)
	}
	ns.sealed[id] = bytes.Clone(record)
}

// walk takes up the records in b, the first of which has number n, and returns the salt that
// the last of them were sealed under.
func (ns *nonces) walk(t *testing.T, salt, b []byte, n uint64) []byte {
	t.Helper()
	for len(b) > 4 {
		size := int(binary.BigEndian.Uint32(b))
		if size == rekeyMark {
			salt, b = b[4:4+saltSize], b[rekeySize:]
			continue
		}
		if size < sealedMin || 4+size > len(b) || !ns.verifies(t, salt, n, b[:4+size]) {
			break
		}
		ns.add(t, salt, n, b[:4+size])
		b, n = b[4+size:], n+1
	}
	return salt
}

func (ns *nonces) collect(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	var salt []byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		salt = ns.walk(t, b[16:48], b[headerSize:], binary.BigEndian.Uint64(b[64:]))
	}
	b, err := os.ReadFile(filepath.Join(dir, tailName))
	if err != nil || salt == nil {
		return
	}
	ns.walk(t, salt, b[tailHeader:], binary.BigEndian.Uint64(b[tailNumber:]))
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(from, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, filepath.Join(from, tailName)) {
		b, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) { // the tail may have been taken away
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(name)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A copy of the journal is put back at any time: one that was made while it was in use, after
// it was closed, after a kill; with its tail and without. However often that happens, and
// whatever is written then, no nonce seals two records under one key.
func TestNoNonceTwice(t *testing.T) {
	const rounds = 40
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 15))
			base, ns := tailDir(t), &nonces{byNumber: true, sealed: map[string][]byte{}, keys: map[string]*sealer{}}
			var copies []string
			dir := filepath.Join(base, "0")
			var rekeys, restores int
			for round := range rounds {
				j, err := Open(Config{Dir: dir, Derive: testKey(1), SegmentSize: 64 << 10, AcceptMissing: true})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(j.Abandon)
				if r.IntN(4) == 0 && j.tail.m != nil { // as on a file system without one
					if err := unix.Munmap(j.tail.m); err != nil {
						t.Fatal(err)
					}
					j.tail.m = nil
				}
				began := len(j.segs)
				for range 1 + r.IntN(40) {
					// What is written differs from line to line: its bytes are random.
					p := make([]byte, 1+r.IntN(1<<(1+r.IntN(12))))
					for i := range p {
						p[i] = byte(r.Uint32())
					}
					n, err := j.Append(p)
					if err != nil {
						t.Fatal(err)
					}
					switch r.IntN(12) {
					case 0:
						if err := j.Sync(t.Context(), n); err != nil {
							t.Fatal(err)
						}
					case 1:
						ns.collect(t, dir) // Trim may give segments to new ones
						if err := j.Trim(n - min(n, uint64(r.IntN(20)))); err != nil {
							t.Fatal(err)
						}
					case 2:
						c := filepath.Join(base, fmt.Sprintf("copy %d", len(copies)))
						copyDir(t, dir, c)
						copies = append(copies, c)
					}
				}
				ns.collect(t, dir)
				if began == 1 && len(j.segs) == 1 {
					rekeys++
				}
				if r.IntN(2) == 0 {
					die(j)
				} else if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				ns.collect(t, dir)
				if len(copies) > 0 && r.IntN(3) > 0 { // a backup is put back
					restores++
					dir = filepath.Join(base, fmt.Sprint(round+1))
					copyDir(t, copies[r.IntN(len(copies))], dir)
				}
				if r.IntN(3) == 0 {
					os.Remove(filepath.Join(dir, tailName))
				}
			}
			if rekeys == 0 || restores == 0 || len(ns.sealed) < 10*rounds {
				t.Fatalf("%d records, %d times in another's segment, %d restores: nothing was tried", len(ns.sealed), rekeys, restores)
			}
		})
	}
}

// What is copied while it runs, as a virtual machine is, goes on twice under one key from one
// number. The hedge keeps the nonces apart.
func TestTwinsInMemory(t *testing.T) {
	a := open(t, tailDir(t))
	fill(t, a, 5)
	if err := a.flush(); err != nil {
		t.Fatal(err)
	}
	dir := tailDir(t)
	copyDir(t, a.cfg.Dir, filepath.Join(dir, "b"))
	b := open(t, filepath.Join(dir, "b"))
	b.segs[0].now, b.segs[0].own, b.next = a.segs[0].now, true, a.next
	ns := &nonces{sealed: map[string][]byte{}, keys: map[string]*sealer{}}
	for i := range 200 {
		for k, j := range []*Journal{a, b} {
			if _, err := j.Append([]byte{byte(i), byte(k), 1, 2, 3}); err != nil {
				t.Fatal(err)
			}
		}
	}
	ns.collect(t, a.cfg.Dir)
	ns.collect(t, b.cfg.Dir)
	if len(ns.sealed) != 5+2*200 {
		t.Fatalf("%d nonces for %d records", len(ns.sealed), 5+2*200)
	}
}

// A record takes no more room than one of version 1 did, and opening a journal that then is
// written takes 52 bytes: no new segment.
func TestSizeOfRecords(t *testing.T) {
	j := open(t, tailDir(t))
	at := int64(headerSize)
	for i := range 5 {
		if _, err := j.Append(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		at += 4 + 8 + 16 + 10
		if s := j.segs[0]; s.pos != at || len(j.segs) != 1 {
			t.Fatalf("after %d records at %d in %d segments, want %d", i+1, s.pos, len(j.segs), at)
		}
		if i%2 == 0 {
			die(j)
		} else if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, j.cfg.Dir)
		at += 4 + saltSize + tagSize
	}
}

// The salt of a process stands in the tail too: a re-key entry that is damaged takes nothing
// with it, and if neither copy is good, it is noticed that synced records are gone.
func TestDamagedRekeyEntry(t *testing.T) {
	for _, x := range []struct {
		name   string
		synced bool
		tail   bool // its copy of the salt is damaged, too
		closed bool
	}{{"killed", false, false, false}, {"synced", true, false, false}, {"closed", true, true, true}} {
		t.Run(x.name, func(t *testing.T) {
			dir := tailDir(t)
			j := open(t, dir)
			fill(t, j, 3)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j = open(t, dir)
			path, entry := lastSegment(j)
			fill(t, j, 4)
			if x.synced {
				if err := j.Sync(t.Context(), 7); err != nil {
					t.Fatal(err)
				}
				fill(t, j, 1)
			} else {
				fill(t, j, 1)
			}
			if x.closed {
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				die(j)
			}
			flip(t, path, entry+2) // its mark, so that nothing tells that it is one
			if x.tail {
				flip(t, filepath.Join(dir, tailName), tailSalt)
				if _, err := Open(j.cfg); err == nil {
					t.Fatal("synced records are dropped without a word")
				}
				return
			}
			j = open(t, dir)
			check(t, j, 0, 8)
		})
	}
}
