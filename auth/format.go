package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// The layout of a keystore; FORMAT.md explains it.
const (
	keystoreMagic = "ICKS"    // and the version of the format
	keystoreMax   = 512 << 10 // bytes of a file
	flagPending   = 1

	idSize     = 16
	saltSize   = 16
	nonceSize  = 24 // XChaCha20-Poly1305
	tagSize    = 16
	masterSize = 32
	sumSize    = sha256.Size
)

// keystore is a keystore file, still sealed.
type keystore struct {
	format  byte // 1, or 2: the contents end in an extension
	id      [idSize]byte
	pending bool // the phrase was not confirmed
	did     string
	device  string
	slots   []slot
	nonce   [nonceSize]byte
	sealed  []byte // the contents
}

// identity is what stays for the life of a keystore; each slot authenticates it.
func (k *keystore) identity() []byte {
	b := append(append([]byte(keystoreMagic), k.format), k.id[:]...)
	b = appendText16(b, k.did)
	return appendText16(b, k.device)
}

// header is all that stands before the contents, which authenticate it.
func (k *keystore) header() []byte {
	b := k.identity()
	var flags byte
	if k.pending {
		flags |= flagPending
	}
	b = append(b, flags, byte(len(k.slots)))
	for i := range k.slots {
		b = append(b, k.slots[i].head()...)
		b = append(b, k.slots[i].nonce[:]...)
		b = append(b, k.slots[i].sealed[:]...)
	}
	return b
}

func (k *keystore) contentsAAD() []byte {
	return append([]byte("ipfscloud/v1/keystore/contents\x00"), k.header()...)
}

// encode is the file.
func (k *keystore) encode() []byte {
	b := k.header()
	b = append(b, k.nonce[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(k.sealed)))
	b = append(b, k.sealed...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// parseKeystore reads a file. Every error is ErrKeystore and names the part that is
// damaged, as far as that can be told without opening anything.
func parseKeystore(b []byte) (*keystore, error) {
	k, whole, err := takeApart(b)
	if err == nil && !whole {
		err = errors.New("the checksum does not match: something was altered; `ipfscloud keystore check` looks closer")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrKeystore)
	}
	return k, nil
}

// takeApart finds the parts of a file; whole tells whether the checksum at its end is
// right. The checksum tells damage from a wrong passphrase; it is no protection, the
// seals are.
func takeApart(b []byte) (k *keystore, whole bool, err error) {
	if len(b) > keystoreMax {
		return nil, false, fmt.Errorf("%d bytes are more than a keystore has", len(b))
	}
	if len(b) > sumSize {
		sum := sha256.Sum256(b[:len(b)-sumSize])
		whole = bytes.Equal(sum[:], b[len(b)-sumSize:])
	}
	r := reader{b: b}
	k = &keystore{}
	fail := func(format string, args ...any) (*keystore, bool, error) {
		if r.err != nil {
			return nil, whole, fmt.Errorf("cut off after %d bytes, in %s", len(b), r.part)
		}
		return nil, whole, fmt.Errorf(format, args...)
	}
	r.at("the magic bytes")
	if magic := r.take(len(keystoreMagic)); string(magic) != keystoreMagic {
		return fail("this is no keystore: it begins with %q", magic)
	}
	if k.format = r.byte(); k.format != formatFixed && k.format != formatLog {
		return fail("format version %d is not known to this program", k.format)
	}
	r.at("the names of identity and device")
	r.fill(k.id[:])
	k.did, k.device = string(r.block(2)), string(r.block(2))
	r.at("the flags")
	flags := r.byte()
	k.pending = flags&flagPending != 0
	if flags&^flagPending != 0 {
		return fail("unknown flags %#x", flags)
	}
	r.at("the number of slots")
	n := int(r.byte())
	if n < 1 || n > slotMax {
		return fail("%d slots", n)
	}
	k.slots = make([]slot, n)
	for i := range k.slots {
		r.at(fmt.Sprintf("slot %d", i+1))
		if err := k.slots[i].parse(&r); err != nil {
			return fail("slot %d: %w", i+1, err)
		}
	}
	r.at("the contents")
	r.fill(k.nonce[:])
	if k.sealed = bytes.Clone(r.block(4)); r.err == nil {
		r.at("the checksum")
		r.take(sumSize)
	}
	if err := r.close(); err != nil {
		return fail("%w after the checksum", err)
	}
	return k, whole, nil
}

// contents are what a keystore keeps sealed.
type contents struct {
	signing   *secret // Ed25519 seed of the device
	agreement *secret // HPKE seed of the device
	phrase    *secret // entropy of the phrase until it is confirmed, else nil
	recovery  []byte  // HPKE public key of the recovery recipient
	name      string  // of the device
	keyID     string  // of the device's signing key
	version   did.Version
	document  []byte // newest one seen
	// extension is what identities with a history have besides; nil for format 1.
	extension *extension
}

func (c *contents) wipe() {
	c.signing.wipe()
	c.agreement.wipe()
	c.phrase.wipe()
	c.extension.wipe()
}

// encode writes the contents into locked memory.
func (c *contents) encode() (*secret, error) {
	var phrase []byte
	if c.phrase != nil {
		phrase = c.phrase.bytes()
	}
	public := appendText16(nil, string(c.recovery))
	public = appendText16(public, c.name)
	public = appendText16(public, c.keyID)
	public = binary.BigEndian.AppendUint64(public, c.version.Number)
	public = appendText16(public, c.version.ID)
	public = binary.BigEndian.AppendUint32(public, uint32(len(c.document)))
	public = append(public, c.document...)

	s, err := newSecret(2*seedSize + 1 + len(phrase) + len(public) + c.extension.size())
	if err != nil {
		return nil, err
	}
	b := s.bytes()[:0] // within its capacity append does not move it
	b = append(b, c.signing.bytes()...)
	b = append(b, c.agreement.bytes()...)
	b = append(b, byte(len(phrase)))
	b = append(b, phrase...)
	b = append(b, public...)
	_ = c.extension.append(b)
	return s, nil
}

// parseContents reads what encode wrote; b stays the caller's.
func parseContents(b []byte, format byte) (_ *contents, err error) {
	r := reader{b: b}
	c := &contents{}
	signing, agreement, phrase := r.take(seedSize), r.take(seedSize), r.block(1)
	c.recovery = bytes.Clone(r.block(2))
	c.name, c.keyID = string(r.block(2)), string(r.block(2))
	c.version = did.Version{Number: r.uint64(), ID: string(r.block(2))}
	c.document = bytes.Clone(r.block(4))
	var publishing []byte
	if format == formatLog {
		c.extension = &extension{}
		publishing = c.extension.parse(&r)
	}
	if err := r.close(); err != nil {
		return nil, fmt.Errorf("contents: %v: %w", err, ErrKeystore)
	}
	if n := len(phrase); n != 0 && n != phraseEntropy {
		return nil, fmt.Errorf("contents: phrase of %d bytes: %w", n, ErrKeystore)
	}
	defer func() {
		if err != nil {
			c.wipe()
		}
	}()
	if c.signing, err = copySecret(signing); err != nil {
		return nil, err
	}
	if c.agreement, err = copySecret(agreement); err != nil {
		return nil, err
	}
	if len(phrase) > 0 {
		if c.phrase, err = copySecret(phrase); err != nil {
			return nil, err
		}
	}
	if len(publishing) > 0 {
		if c.extension.publishing, err = copySecret(publishing); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func appendText16(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

var errShort = errors.New("cut off")

// reader reads fixed and length-prefixed fields, big-endian. After the first error it
// returns zeros.
type reader struct {
	b    []byte
	err  error
	part string // what is being read, for messages
}

func (r *reader) take(n int) []byte {
	if r.err == nil && n > len(r.b) {
		r.err = errShort
	}
	if r.err != nil {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// at names the part that is read next.
func (r *reader) at(part string) {
	if r.err == nil {
		r.part = part
	}
}

func (r *reader) fill(to []byte) { copy(to, r.take(len(to))) }

func (r *reader) number(n int) (v uint64) {
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *reader) byte() byte         { return byte(r.number(1)) }
func (r *reader) uint32() uint32     { return uint32(r.number(4)) }
func (r *reader) uint64() uint64     { return r.number(8) }
func (r *reader) block(n int) []byte { return r.take(int(r.number(n))) }

// close wants everything read.
func (r *reader) close() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	return r.err
}
