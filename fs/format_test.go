package fs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"reflect"
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
	if err != nil || p.len() != 1 || p.keys(0)[0] != "a" {
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

// wideRecord is a record of version 1: inode 0x1000001, mode 0100644, user and group 1000,
// and the seconds 1, 2, 3, 1 of atime, mtime, ctime and btime.
const wideRecord = "01010000000001000001000081a401e807e8070001000000003b9aca00000000007735940000000000b2d05e00000000003b9aca006c6162656c6c6162656c000141"

// Times stay what they are, as far apart as they may be, and those of version 1.
func TestRecordTimes(t *testing.T) {
	for _, a := range []Attr{
		{Atime: 1, Mtime: 2, Ctime: 3, Btime: 4},
		{Atime: math.MinInt64, Mtime: math.MaxInt64, Ctime: math.MinInt64, Btime: math.MaxInt64},
		{Atime: math.MaxInt64, Mtime: math.MinInt64, Ctime: 0, Btime: math.MinInt64},
		{Atime: -1, Mtime: -2, Ctime: 1 << 60, Btime: -5},
	} {
		a.Mode, a.Nlink = ModeRegular|0o600, 1
		r, err := decodeRecord((&record{attr: a}).encode())
		if err != nil || r.attr != a {
			t.Errorf("%+v, not %+v: %v", r, a, err)
		}
	}
	b, err := hex.DecodeString(wideRecord)
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeRecord(b)
	want := Attr{Ino: 0x1000001, Mode: 0o100644, Nlink: 1, UID: 1000, GID: 1000, Size: 1, Atime: 1e9, Mtime: 2e9, Ctime: 3e9, Btime: 1e9}
	if err != nil || r.attr != want || string(r.inline) != "A" {
		t.Errorf("%+v, %v", r, err)
	}
	if ino, mode, err := recordType(b); err != nil || ino != want.Ino || mode != ModeRegular {
		t.Errorf("%x, %o, %v", ino, mode, err)
	}
	for _, version := range []byte{0, 3} {
		b[0] = version
		if _, err := decodeRecord(b); err == nil || !errors.Is(err, crypt.ErrFormat) {
			t.Errorf("a record of version %d: %v", version, err)
		}
	}
}

// A record has a label if, and only if, the shadow tree links something by it.
func TestRecordLabels(t *testing.T) {
	label := crypt.NewLabel()
	for body, linked := range map[bodyKind]bool{
		bodyNone: false, bodyInline: false, bodyExtents: true, bodyTree: true, bodySymlink: false, bodyDir: true,
	} {
		r := &record{attr: Attr{Mode: ModeRegular}, body: body, label: label}
		switch body {
		case bodyDir:
			r.attr.Mode = ModeDir
		case bodySymlink:
			r.attr.Mode = ModeSymlink
		}
		got, err := decodeRecord(r.encode())
		if err != nil || (got.label == label) != linked || !linked && got.label != (crypt.Label{}) {
			t.Errorf("body %d has the label %s: %v", body, got.label, err)
		}
	}
	r := &record{attr: Attr{Mode: ModeDir}, label: label} // empty, and linked as such
	if got, err := decodeRecord(r.encode()); err != nil || got.label != label {
		t.Errorf("an empty directory has the label %s: %v", got.label, err)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add((&record{attr: Attr{Mode: ModeRegular}, body: bodyInline, inline: []byte("x")}).encode())
	f.Add((&record{attr: Attr{Mode: ModeRegular, Atime: math.MinInt64, Mtime: math.MaxInt64, Ctime: -1, Btime: 1}}).encode())
	wide, err := hex.DecodeString(wideRecord)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wide)
	f.Add((&draft{leaf: true, items: []item{{key: "k", value: []byte("v")}}}).encode())
	top := vaultTop{root: &record{attr: Attr{Mode: ModeDir}}}
	f.Add(top.encode())
	f.Add((&op{kind: opCreate, name: "n", data: []byte("d")}).header(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRecord(b); err == nil {
			if b[0] == recordWide { // read, and written as the version of today
				was := *r
				if b = r.encode(); len(b) == 0 || b[0] != recordVersion {
					t.Fatalf("written as %x", b)
				}
				if !was.linked() {
					was.label = crypt.Label{}
				}
				if r, err = decodeRecord(b); err != nil || !reflect.DeepEqual(*r, was) {
					t.Fatalf("%+v, not %+v: %v", r, was, err)
				}
			}
			if !bytes.Equal(r.encode(), b) {
				t.Fatal("a record parses and encodes otherwise")
			}
		}
		if p, err := decodePage(crypt.PageDirectory, b); err == nil && b[0] == pageVersion && !bytes.Equal(again(p).encode(), b) {
			t.Fatal("a page parses and encodes otherwise")
		}
		if v, err := decodeTop(b); err == nil {
			d := crypt.NewDecoder(b)
			d.U8()
			if root := d.Bytes(); root[0] != recordWide && !bytes.Equal(v.encode(), b) {
				t.Fatal("a vault page parses and encodes otherwise")
			}
		}
		if o, err := decodeOp(b); err == nil && !bytes.Equal(append(o.header(nil), o.data...), b) {
			t.Fatal("a change parses and encodes otherwise")
		}
		if _, err := decodeLinks(b); err != nil {
			return
		}
	})
}
