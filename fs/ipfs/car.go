package ipfs

import (
	"encoding/binary"
	"io"

	"github.com/cluster-labs/ipfscloud/fs"
)

// carReader is a CAR file, version 1, that is made while it is read: no more than one
// block of it is in memory.
type carReader struct {
	left []fs.CID
	get  func(fs.CID) ([]byte, error)
	buf  []byte
	err  error
}

// newCAR returns a CAR of the given blocks. Its root is the first of them; there must be
// one.
func newCAR(cids []fs.CID, get func(fs.CID) ([]byte, error)) io.Reader {
	return &carReader{left: cids, get: get, buf: carHeader(cids[0])}
}

// carHeader is the DAG-CBOR of {"roots": [root], "version": 1} after its length.
func carHeader(root fs.CID) []byte {
	var h []byte
	h = append(h, 0xa2, 0x65)
	h = append(h, "roots"...)
	h = append(h, 0x81, 0xd8, 0x2a, 0x58, byte(1+len(root.Bytes())), 0)
	h = root.Append(h)
	h = append(h, 0x67)
	h = append(h, "version"...)
	h = append(h, 1)
	return append(binary.AppendUvarint(nil, uint64(len(h))), h...)
}

// Read implements io.Reader.
func (r *carReader) Read(p []byte) (int, error) {
	for len(r.buf) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if len(r.left) == 0 {
			return 0, io.EOF
		}
		c := r.left[0]
		r.left = r.left[1:]
		data, err := r.get(c)
		if err != nil {
			r.err = err
			return 0, err
		}
		id := c.Bytes()
		r.buf = binary.AppendUvarint(r.buf[:0], uint64(len(id)+len(data)))
		r.buf = append(append(r.buf, id...), data...)
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}
