package crypt

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

func newVaultKey(t *testing.T) *VaultKey {
	t.Helper()
	k, err := NewVaultKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Keys that are derived in locked memory are those that the format says.
func TestVaultKeyDerives(t *testing.T) {
	plain := NewKey()
	k, err := moveVaultKey(bytes.Clone(plain[:]))
	if err != nil {
		t.Fatal(err)
	}
	for _, salt := range [][]byte{nil, {1}, bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, 100)} {
		if k.Derive(salt, "label") != plain.Derive(salt, "label") {
			t.Errorf("salt of %d bytes: another key", len(salt))
		}
		d, err := k.DeriveVaultKey(salt, "label")
		if err != nil || d.Derive(nil, "x") != plain.Derive(salt, "label").Derive(nil, "x") {
			t.Errorf("salt of %d bytes: another key (%v)", len(salt), err)
		}
	}
	if s := fmt.Sprintf("%v %x %+v %s", k, k, k, k); s != "key key key key" {
		t.Errorf("it prints as %q", s)
	}
}

// What is moved into locked memory is overwritten where it came from, and lies in memory that
// is locked and left out of dumps and children.
func TestVaultKeyIsLocked(t *testing.T) {
	b := bytes.Repeat([]byte{0x5a}, keySize)
	k, err := moveVaultKey(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, make([]byte, keySize)) {
		t.Error("the bytes it came from are left")
	}
	if _, err := moveVaultKey(make([]byte, 31)); err == nil {
		t.Error("31 bytes are a key")
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("%x-", uintptr(unsafe.Pointer(&k.mem[0])))
	_, rest, found := strings.Cut("\n"+string(smaps), "\n"+at)
	if !found { // joined with the page before
		t.Skip("the kernel has joined its page with another one")
	}
	_, flags, _ := strings.Cut(rest, "VmFlags:")
	flags, _, _ = strings.Cut(flags, "\n")
	for _, want := range []string{" lo", " dd", " wf"} {
		if !strings.Contains(flags, want) {
			t.Errorf("flags of its memory:%s, want%s", flags, want)
		}
	}
}
