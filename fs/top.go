package fs

import (
	"fmt"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// vaultTop is the page that a head points to: the root directory and the vault's tables.
type vaultTop struct {
	commitInfo // of the commit it stands in; not part of the page

	root   *record           // the root directory's inode
	inodes crypt.PagePointer // PageInodes: inode number → record, for inodes with several names
	refs   crypt.PagePointer // PageRefs: blob → number of files that share it, 2 or more
	dead   crypt.PagePointer // PageDead: sequence of death, CID → sequence of birth
	late   []deadBlock       // dead blocks of the dead list itself, for the next commit's
	files  uint64            // inodes
	bytes  uint64            // logical bytes of all files
	labels [5]crypt.Label    // of the links to the page itself, the root and the tables
}

// deadBlock is a block that commits from death on do not need.
type deadBlock struct {
	cid   CID
	birth uint64
}

const topVersion = 1

func (v *vaultTop) encode() []byte {
	var e crypt.Encoder
	e.U8(topVersion)
	e.Bytes(v.root.encode())
	v.inodes.Encode(&e)
	v.refs.Encode(&e)
	v.dead.Encode(&e)
	e.Uvarint(uint64(len(v.late)))
	for _, d := range v.late {
		e.Raw(d.cid.Bytes())
		e.U64(d.birth)
	}
	e.U64(v.files)
	e.U64(v.bytes)
	for _, l := range v.labels {
		e.Raw(l[:])
	}
	return e.Buf
}

func decodeTop(b []byte) (*vaultTop, error) {
	d := crypt.NewDecoder(b)
	if ver := d.U8(); ver != topVersion {
		d.Fail("unknown version of the vault page")
	}
	v := &vaultTop{}
	root, err := decodeRecord(d.Bytes())
	if err != nil && d.Err() == nil {
		return nil, err
	}
	v.root = root
	v.inodes = decodeRoot(d)
	v.refs = decodeRoot(d)
	v.dead = decodeRoot(d)
	for range d.Count(crypt.CIDSize + 8) {
		cid, err := crypt.CIDFromBytes(d.Take(crypt.CIDSize))
		if err != nil {
			d.Fail("dead block")
			break
		}
		v.late = append(v.late, deadBlock{cid, d.U64()})
	}
	v.files = d.U64()
	v.bytes = d.U64()
	for i := range v.labels {
		copy(v.labels[i][:], d.Take(crypt.LabelSize))
	}
	if err := d.Close(); err != nil {
		return nil, fmt.Errorf("vault page: %w", err)
	}
	return v, nil
}

// decodeRoot reads a pointer that may be empty: an empty table.
func decodeRoot(d *crypt.Decoder) crypt.PagePointer {
	p := crypt.DecodePagePointer(d)
	if p.CID.Digest != ([32]byte{}) {
		return p
	}
	empty := crypt.PagePointer{Pointer: crypt.Pointer{CID: CID{Codec: crypt.Raw}}, Node: CID{Codec: crypt.DagPB}}
	if p != empty {
		d.Fail("an empty table that is not empty")
	}
	return crypt.PagePointer{}
}

// links are what the shadow tree's top node links below the page itself.
func (v *vaultTop) links() ([]Link, error) {
	rootLinks, err := v.root.shadowLink()
	if err != nil {
		return nil, err
	}
	for i := range rootLinks {
		rootLinks[i].Name = v.labels[1].String()
	}
	out := rootLinks
	for i, p := range []*crypt.PagePointer{&v.inodes, &v.refs, &v.dead} {
		if !p.IsZero() {
			out = append(out, Link{v.labels[2+i].String(), p.Node, p.Size})
		}
	}
	return out, nil
}
