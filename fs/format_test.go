package fs

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// The page of FORMAT.md's example means what the text says, and encodes to the same bytes.
func TestFormatExampleRecord(t *testing.T) {
	text, err := os.ReadFile("crypt/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	get := func(name string) string {
		m := regexp.MustCompile(`(?s)### Example: a directory page.*?\n    ` + name + ` +(\w+)\n`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("FORMAT.md has no %s", name)
		}
		return string(m[1])
	}
	plain, err := hex.DecodeString(get("plain"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := decodePage(crypt.PageDirectory, plain)
	if err != nil || p.len() != 1 || string(p.key(0)) != "a" {
		t.Fatal(p, err)
	}
	if !bytes.Equal(again(p).encode(), plain) {
		t.Fatal("the page encodes to other bytes")
	}
	r, err := decodeRecord(p.value(0))
	if err != nil || r.attr.Ino != 0x1000001 || r.attr.Mode != 0o100644 || r.attr.Mtime != 2e9 || string(r.inline) != "A" {
		t.Fatal(r, err)
	}
	if !bytes.Equal(r.encode(), p.value(0)) {
		t.Fatal("the record encodes to other bytes")
	}
	cid, err := crypt.ParseCID(get("cid"))
	if err != nil {
		t.Fatal(err)
	}
	node, _, err := again(p).shadow(cid, crypt.PageStep, linkRecord)
	if err != nil || hex.EncodeToString(node.Data) != get("node") || p.label.String() != get("label") {
		t.Fatalf("node %x, %v", node.Data, err)
	}
}

// A page that leads nowhere is damage, and no page without names.
func TestEmptyInteriorPage(t *testing.T) {
	if p, err := decodePage(crypt.PageDirectory, (&draft{leaf: false}).encode()); err == nil {
		t.Fatalf("%d items", p.len())
	}
	if _, err := decodePage(crypt.PageDirectory, (&draft{leaf: true}).encode()); err != nil {
		t.Fatal(err)
	}
}

// again is what a page is made of.
func again(p *page) *draft { return &draft{p.kind, p.label, p.leaf, p.items()} }

func FuzzRecords(f *testing.F) {
	f.Add((&record{attr: Attr{Mode: ModeRegular}, body: bodyInline, inline: []byte("x")}).encode())
	f.Add((&draft{leaf: true, items: []item{{key: "k", value: []byte("v")}}}).encode())
	top := vaultTop{root: &record{attr: Attr{Mode: ModeDir}}}
	f.Add(top.encode())
	f.Add((&op{kind: opCreate, name: "n", data: []byte("d")}).header(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRecord(b); err == nil && !bytes.Equal(r.encode(), b) {
			t.Fatal("a record parses and encodes otherwise")
		}
		if p, err := decodePage(crypt.PageDirectory, b); err == nil && !bytes.Equal(again(p).encode(), b) {
			t.Fatal("a page parses and encodes otherwise")
		}
		if v, err := decodeTop(b); err == nil && !bytes.Equal(v.encode(), b) {
			t.Fatal("a vault page parses and encodes otherwise")
		}
		if o, err := decodeOp(b); err == nil && !bytes.Equal(append(o.header(nil), o.data...), b) {
			t.Fatal("a change parses and encodes otherwise")
		}
		if _, err := decodeLinks(b); err != nil {
			return
		}
	})
}
