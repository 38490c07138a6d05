package fstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Link is one entry of a UnixFS directory node.
type Link struct {
	Name string
	CID  fs.CID
	Size uint64 // bytes of the graph below the link; tools show it, nobody relies on it
}

var errDagPB = errors.New("not a dag-pb node")

// Directory encodes a UnixFS directory node with the given links, in canonical dag-pb:
// links sorted by name and before the data.
func Directory(links ...Link) fs.Block {
	sorted := append([]Link(nil), links...)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].Name < sorted[j].Name })
	var node []byte
	for _, l := range sorted {
		var link []byte
		link = appendBytes(link, 1, l.CID.Bytes())
		link = appendBytes(link, 2, []byte(l.Name))
		link = append(link, 3<<3)
		link = binary.AppendUvarint(link, l.Size)
		node = appendBytes(node, 2, link)
	}
	node = appendBytes(node, 1, []byte{0x08, 0x01}) // UnixFS Data{Type: Directory}
	return fs.Block{CID: crypt.Sum(crypt.DagPB, node), Data: node}
}

// RawBlock names data as a leaf.
func RawBlock(data []byte) fs.Block {
	return fs.Block{CID: crypt.Sum(crypt.Raw, data), Data: data}
}

func appendBytes(b []byte, field int, v []byte) []byte {
	b = append(b, byte(field<<3|2))
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// links returns the CIDs that a dag-pb node links to; a raw block links to none.
func links(b fs.Block) ([]fs.CID, error) {
	if b.CID.Codec != crypt.DagPB {
		return nil, nil
	}
	var out []fs.CID
	err := fields(b.Data, func(field int, v []byte) error {
		if field != 2 {
			return nil
		}
		return fields(v, func(field int, v []byte) error {
			if field != 1 {
				return nil
			}
			c, err := crypt.CIDFromBytes(v)
			if err == nil {
				out = append(out, c)
			}
			return err
		})
	})
	return out, err
}

// fields calls f for each length-delimited field of a protobuf message.
func fields(b []byte, f func(field int, v []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("tag: %w", errDagPB)
		}
		b = b[n:]
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("value: %w", errDagPB)
		}
		b = b[n:]
		switch tag & 7 {
		case 0:
		case 2:
			if v > uint64(len(b)) {
				return fmt.Errorf("length %d of %d: %w", v, len(b), errDagPB)
			}
			if err := f(int(tag>>3), b[:v]); err != nil {
				return err
			}
			b = b[v:]
		default:
			return fmt.Errorf("wire type %d: %w", tag&7, errDagPB)
		}
	}
	return nil
}

// Links lists the blocks that a block links to, as a pin walks them.
func Links(cid fs.CID, data []byte) ([]fs.CID, error) {
	return links(fs.Block{CID: cid, Data: data})
}
