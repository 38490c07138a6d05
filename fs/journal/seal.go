package journal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// Versions of a segment. Version 1 is read; nothing is written to such a segment any more.
const (
	version1 = 1
	version2 = 2

	saltSize  = 32
	tagSize   = 16
	hedgeSize = 6

	labelRecords1 = "ipfscloud/v1/journal"
	labelRecords2 = "ipfscloud/v2/journal"
	labelTags2    = "ipfscloud/v2/journal tag"
)

// Deriver makes the key for a salt and a label out of the journal's key, which the journal
// itself never sees. The caller of it overwrites the result when it is done with it.
type Deriver func(salt []byte, label string) ([]byte, error)

// sealer seals and opens the records that were written under one salt.
//
// In version 2 nothing that could be restored from a copy decides which nonces are used:
// each process draws a salt of its own before its first record in a segment, so it has a key
// of its own, and counts its records under it. The hedge is for what is copied while it runs,
// as a virtual machine is: both copies have the same key and count on from the same number,
// but draw different hedges.
type sealer struct {
	version byte
	salt    [saltSize]byte
	aead    cipher.AEAD
	// Scratch for seal, which one goroutine at a time calls.
	hedge [hedgeSize]byte
	nonce [12]byte
	tags  []byte // key of the tags of headers and re-key entries; version 2 alone
}

func newSealer(version byte, derive Deriver, salt []byte) (*sealer, error) {
	k := &sealer{version: version}
	copy(k.salt[:], salt)
	label := labelRecords1
	if version != version1 {
		label = labelRecords2
		var err error
		if k.tags, err = derive(salt, labelTags2); err != nil {
			return nil, err
		}
	}
	key, err := derive(salt, label)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if k.aead, err = cipher.NewGCM(b); err != nil {
		return nil, err
	}
	return k, nil
}

// freshSealer has a salt that nothing was sealed under.
func freshSealer(derive Deriver) (*sealer, error) {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails: crypto/rand ends the process instead
	return newSealer(version2, derive, salt)
}

// tag authenticates a header or a re-key entry. It is no seal and takes no nonce: to compute
// it again for the same bytes tells nothing.
func (k *sealer) tag(b []byte) []byte {
	h := hmac.New(sha256.New, k.tags)
	h.Write(b)
	return h.Sum(nil)[:tagSize]
}

// nonce1 is the nonce of record n in version 1.
func nonce1(n uint64) []byte {
	var b [12]byte
	binary.BigEndian.PutUint64(b[4:], n)
	return b[:]
}

// nonce2 is the nonce of record n in version 2: the hedge and the lower 48 bits of the number.
func nonce2(b *[12]byte, hedge []byte, n uint64) []byte {
	binary.BigEndian.PutUint64(b[4:], n)
	copy(b[:hedgeSize], hedge)
	return b[:]
}

// unknownMark in a record of version 2 says nothing about what is synced: too many records
// lie in between to count them in 16 bits.
const unknownMark = 1<<16 - 1

// seal appends the sealed part of record n to b, whose last four bytes are its length.
// *plain is scratch; no plaintext gets to b at any time.
func (k *sealer) seal(b []byte, plain *[]byte, n, synced uint64, parts [][]byte) []byte {
	length := b[len(b)-4:]
	p := (*plain)[:0]
	if k.version == version1 {
		p = binary.BigEndian.AppendUint64(p, synced)
	} else {
		p = binary.BigEndian.AppendUint16(p, uint16(min(n-synced, unknownMark)))
	}
	for _, x := range parts {
		p = append(p, x...)
	}
	*plain = p
	if k.version == version1 {
		return k.aead.Seal(b, nonce1(n), p, length)
	}
	// Not into b, which may be a mapped file: a disk that fails below it must not fail the
	// reading of random bytes, which would end the process.
	rand.Read(k.hedge[:])
	return k.aead.Seal(append(b, k.hedge[:]...), nonce2(&k.nonce, k.hedge[:], n), p, length)
}

// open opens the sealed part of record n in its place. mark is the highest record that it says
// was synced.
func (k *sealer) open(n uint64, length, sealed []byte) (mark uint64, payload []byte, ok bool) {
	if len(sealed) < sealedMin {
		return 0, nil, false
	}
	if k.version == version1 {
		plain, err := k.aead.Open(sealed[:0], nonce1(n), sealed, length)
		if err != nil {
			return 0, nil, false
		}
		return binary.BigEndian.Uint64(plain), plain[8:], true
	}
	var nonce [12]byte
	hedge, sealed := sealed[:hedgeSize], sealed[hedgeSize:]
	plain, err := k.aead.Open(sealed[:0], nonce2(&nonce, hedge, n), sealed, length)
	if err != nil {
		return 0, nil, false
	}
	if behind := uint64(binary.BigEndian.Uint16(plain)); behind != unknownMark && behind <= n {
		mark = n - behind
	}
	return mark, plain[2:], true
}

// A re-key entry stands in a segment before the first record of a process that goes on in a
// segment which another one began: the records behind it are sealed under its salt.
//
//	u32 80000030, salt (32), tag (16) of the 36 bytes before, the journal's id, the number of
//	the record that follows (8) and the place of the entry in the segment (8)
const (
	rekeyMark = 1<<31 | saltSize + tagSize
	rekeySize = 4 + saltSize + tagSize
)

func (s *segment) rekeyEntry(k *sealer, n uint64, pos int64) []byte {
	b := binary.BigEndian.AppendUint32(nil, rekeyMark)
	b = append(b, k.salt[:]...)
	return append(b, k.tag(s.rekeyContext(b, n, pos))...)
}

func (s *segment) rekeyContext(b []byte, n uint64, pos int64) []byte {
	c := append(append([]byte(nil), b[:4+saltSize]...), s.journal[:]...)
	c = binary.BigEndian.AppendUint64(c, n)
	return binary.BigEndian.AppendUint64(c, uint64(pos))
}

// openRekey returns the sealer of a re-key entry, or nil if the entry does not verify.
func (s *segment) openRekey(b []byte, n uint64, pos int64) (*sealer, error) {
	k, err := newSealer(version2, s.derive, b[4:4+saltSize])
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(k.tag(s.rekeyContext(b, n, pos)), b[4+saltSize:rekeySize]) {
		return nil, nil
	}
	return k, nil
}
