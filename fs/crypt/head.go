package crypt

import (
	"context"
	"crypto/rand"
	"fmt"
)

// Head is the top of a commit: what a device vouches for with its signature.
type Head struct {
	DID        string // of the vault's owner
	Vault      VaultID
	Epoch      uint64
	Sequence   uint64
	Root       PagePointer // the PageVault
	Keyring    CID         // raw block
	Log        CID         // raw block: the DID document or its log
	LogVersion string
	Parents    []Parent // the heads this one follows; one, unless merged
	Device     string   // who wrote it, and may write next
	Time       int64    // nanoseconds since 1970
	Journals   []JournalPosition
}

// Parent names a head that came before.
type Parent struct {
	Device   string
	Sequence uint64
	Head     CID
}

// JournalPosition is the last record of a device's journal that a head contains.
type JournalPosition struct {
	Device   string
	Journal  [16]byte // which journal: a device that starts anew starts another
	Position uint64
}

const (
	headMagic   = "ICHD\x01"
	headSalt    = 32
	headStep    = 1 << 10
	headMax     = 1 << 20
	headLabel   = "ipfscloud/v1/head"
	headPurpose = headLabel + "\x00"
)

// Signer signs msg with a device's key.
type Signer func(ctx context.Context, msg []byte) ([]byte, error)

// Verifier checks a device's signature.
type Verifier func(ctx context.Context, device string, msg, sig []byte) error

func (h *Head) encode() []byte {
	e := Encoder{Buf: []byte(headPurpose)}
	e.String(h.DID)
	e.Raw(h.Vault[:])
	e.U64(h.Epoch)
	e.U64(h.Sequence)
	h.Root.Encode(&e)
	e.Raw(h.Keyring.Digest[:])
	e.Raw(h.Log.Digest[:])
	e.String(h.LogVersion)
	e.Uvarint(uint64(len(h.Parents)))
	for _, p := range h.Parents {
		e.String(p.Device)
		e.U64(p.Sequence)
		e.Raw(p.Head.Digest[:])
	}
	e.String(h.Device)
	e.I64(h.Time)
	e.Uvarint(uint64(len(h.Journals)))
	for _, j := range h.Journals {
		e.String(j.Device)
		e.Raw(j.Journal[:])
		e.U64(j.Position)
	}
	return e.Buf
}

func decodeHead(b []byte) (*Head, error) {
	d := NewDecoder(b)
	d.Expect(headPurpose)
	h := &Head{DID: d.String()}
	copy(h.Vault[:], d.Take(len(h.Vault)))
	h.Epoch = d.U64()
	h.Sequence = d.U64()
	h.Root = DecodePagePointer(d)
	h.Keyring.Codec, h.Log.Codec = Raw, Raw
	copy(h.Keyring.Digest[:], d.Take(32))
	copy(h.Log.Digest[:], d.Take(32))
	h.LogVersion = d.String()
	for range d.Count(41) {
		p := Parent{Device: d.String(), Sequence: d.U64()}
		p.Head.Codec = Raw
		copy(p.Head.Digest[:], d.Take(32))
		h.Parents = append(h.Parents, p)
	}
	h.Device = d.String()
	h.Time = d.I64()
	for range d.Count(25) {
		j := JournalPosition{Device: d.String()}
		copy(j.Journal[:], d.Take(16))
		j.Position = d.U64()
		h.Journals = append(h.Journals, j)
	}
	if err := d.Close(); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	return h, nil
}

// SealHead signs the head and seals it under the vault key of its epoch.
func SealHead(ctx context.Context, h *Head, vaultKey *VaultKey, sign Signer) ([]byte, error) {
	fields := h.encode()
	sig, err := sign(ctx, fields)
	if err != nil {
		return nil, fmt.Errorf("signing head %d: %w", h.Sequence, err)
	}
	var in Encoder
	in.Bytes(fields)
	in.Bytes(sig)
	in.Raw(make([]byte, (headStep-len(in.Buf)%headStep)%headStep))

	out := Encoder{Buf: []byte(headMagic)}
	out.U64(h.Epoch)
	salt := make([]byte, headSalt)
	rand.Read(salt)
	out.Raw(salt)
	header := out.Buf
	key := vaultKey.Derive(salt, headLabel)
	return key.AEAD().Seal(header[:len(header):len(header)], zeroNonce[:], in.Buf, header), nil
}

// OpenHead opens a sealed head and checks its signature. ErrIntegrity if either fails.
func OpenHead(ctx context.Context, sealed []byte, vaultKey *VaultKey, verify Verifier) (*Head, error) {
	d := NewDecoder(sealed)
	d.Expect(headMagic)
	epoch := d.U64()
	salt := d.Take(headSalt)
	if d.Err() != nil || len(sealed) > headMax {
		return nil, fmt.Errorf("head: %w", ErrIntegrity)
	}
	body := d.Rest()
	key := vaultKey.Derive(salt, headLabel)
	plain, err := key.AEAD().Open(nil, zeroNonce[:], body, sealed[:len(sealed)-len(body)])
	if err != nil {
		return nil, fmt.Errorf("head: %w", ErrIntegrity)
	}
	in := NewDecoder(plain)
	fields, sig := in.Bytes(), in.Bytes()
	for _, b := range in.Rest() {
		if b != 0 {
			in.Fail("padding")
		}
	}
	if in.Err() != nil {
		return nil, fmt.Errorf("head: %w", in.Err())
	}
	h, err := decodeHead(fields)
	if err != nil {
		return nil, err
	}
	if h.Epoch != epoch {
		return nil, fmt.Errorf("head of epoch %d says %d: %w", epoch, h.Epoch, ErrIntegrity)
	}
	if err := verify(ctx, h.Device, fields, sig); err != nil {
		return nil, fmt.Errorf("signature of head %d by %s: %w: %w", h.Sequence, h.Device, ErrIntegrity, err)
	}
	return h, nil
}
