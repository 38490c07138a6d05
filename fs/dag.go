package fs

import (
	"encoding/binary"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// The shadow tree: dag-pb and UnixFS nodes that hold links and no secrets, so that
// pins, garbage collection and other IPFS tools can walk a vault.
//
// dag-pb:  PBNode {repeated PBLink Links = 2; bytes Data = 1}, links first
// PBLink:  {bytes Hash = 1; string Name = 2; uint64 Tsize = 3}
// UnixFS:  {enum Type = 1; uint64 filesize = 3; repeated uint64 blocksizes = 4}

const (
	unixfsDirectory = 1
	unixfsFile      = 2
)

// Link is one link of a node.
type Link struct {
	Name string
	CID  CID
	Size uint64 // bytes of all blocks below, this one included
}

func appendField(b []byte, tag byte, v []byte) []byte {
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func encodeNode(links []Link, data []byte) Block {
	var b, l, cid []byte
	for _, k := range links {
		cid = k.CID.Append(cid[:0])
		l = appendField(l[:0], 0x0a, cid)
		l = appendField(l, 0x12, []byte(k.Name))
		l = append(l, 0x18)
		l = binary.AppendUvarint(l, k.Size)
		b = appendField(b, 0x12, l)
	}
	b = appendField(b, 0x0a, data)
	return Block{CID: crypt.Sum(crypt.DagPB, b), Data: b}
}

// EncodeDir makes a UnixFS directory of links, which must be sorted by name.
func EncodeDir(links []Link) Block {
	return encodeNode(links, []byte{0x08, unixfsDirectory})
}

// encodeFile makes an interior node of a UnixFS file whose parts have the given sizes.
// salt, the name of the first link, makes the node unlike any other with the same parts,
// so that freeing one never frees the other.
func encodeFile(salt string, parts []Link, sizes []uint64) Block {
	d := []byte{0x08, unixfsFile}
	var total uint64
	for _, s := range sizes {
		total += s
	}
	d = append(d, 0x18)
	d = binary.AppendUvarint(d, total)
	for _, s := range sizes {
		d = append(d, 0x20)
		d = binary.AppendUvarint(d, s)
	}
	if salt != "" && len(parts) > 0 {
		parts = append([]Link(nil), parts...)
		parts[0].Name = salt
	}
	return encodeNode(parts, d)
}

// emptyDir stands in the shadow tree for a directory without names.
var emptyDir = EncodeDir(nil)

// decodeLinks returns the links of a dag-pb node, in their order.
func decodeLinks(b []byte) ([]Link, error) {
	var out []Link
	d := crypt.NewDecoder(b)
	for len(d.Rest()) > 0 && d.Err() == nil {
		switch tag := d.U8(); tag {
		case 0x0a:
			d.Bytes()
		case 0x12:
			l := crypt.NewDecoder(d.Bytes())
			var k Link
			l.Expect("\x0a")
			cid, err := crypt.CIDFromBytes(l.Bytes())
			if err != nil {
				return nil, err
			}
			k.CID = cid
			l.Expect("\x12")
			k.Name = l.String()
			l.Expect("\x18")
			k.Size = l.Uvarint()
			if err := l.Close(); err != nil {
				return nil, err
			}
			out = append(out, k)
		default:
			d.Fail("unknown field of a node")
		}
	}
	return out, d.Close()
}
