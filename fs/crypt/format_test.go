package crypt

import (
	"encoding/hex"
	"os"
	"regexp"
	"testing"
)

// example reads a worked example out of FORMAT.md: its indented "name  value" lines.
func example(t *testing.T, heading string) map[string]string {
	t.Helper()
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)### Example: ` + heading + `[^\n]*\n\n(.*?)\n\n`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("FORMAT.md has no example %q", heading)
	}
	out := map[string]string{}
	for _, l := range regexp.MustCompile(`(?m)^    (\w+) +(\w+)$`).FindAllSubmatch(m[1], -1) {
		out[string(l[1])] = string(l[2])
	}
	return out
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

func TestFormatExampleBlob(t *testing.T) {
	x := example(t, "a file with the byte")
	cid, err := ParseCID(x["cid"])
	if err != nil {
		t.Fatal(err)
	}
	sealed := unhex(t, x["sealed"])
	if !cid.Verify(sealed) {
		t.Fatal("the CID does not name the sealed bytes")
	}
	b, err := OpenBlob(Pointer{CID: cid, Key: Key(unhex(t, x["key"])), Length: 1}, sealed)
	if err != nil || string(b) != "A" {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestFormatExamplePage(t *testing.T) {
	x := example(t, "a directory page")
	plain, key := unhex(t, x["plain"]), Key(unhex(t, x["key"]))
	padded := make([]byte, PageStep-pageTag, PageStep)
	copy(padded, plain)
	sealed := key.AEAD().Seal(padded[:0], zeroNonce[:], padded, PageDirectory.aad())
	cid := Sum(Raw, sealed)
	if cid.String() != x["cid"] {
		t.Fatalf("the page seals to %s, FORMAT.md says %s", cid, x["cid"])
	}
	got, err := OpenPage(PageDirectory, Pointer{CID: cid, Key: key, Length: uint32(len(plain))}, sealed)
	if err != nil || hex.EncodeToString(got) != x["plain"] {
		t.Fatal(err)
	}
}
