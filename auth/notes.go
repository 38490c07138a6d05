package auth

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Notes are what an identity keeps in the keyring of its vault, beside the wrapped keys:
// what each device says of itself, signed, and the publishing key, sealed for each of
// them. The vault keeps them under its key and does not read them.

const (
	statementLabel  = "ipfscloud/v1/device\x00"
	publishingInfo  = "ipfscloud/v1/publishing"
	notesVersion    = 1
	notesMax        = 400 << 10 // bytes
	statementsLimit = 256
)

// Statement is what a device says of itself: its key of agreement and its name. Its
// signing key, which the DID document lists, vouches for both.
type Statement struct {
	Subject   string // self-certifying id of the identity, see SelfCertifying
	Name      string
	Signing   ed25519.PublicKey
	Agreement []byte // HPKE public key (MLKEM768-X25519)
	Signature []byte
}

// SelfCertifying is the part of a DID that stays when it moves: of a did:webvh the SCID,
// of others all.
func SelfCertifying(id string) string {
	if rest, ok := strings.CutPrefix(id, "did:webvh:"); ok {
		scid, _, _ := strings.Cut(rest, ":")
		return "did:webvh:" + scid
	}
	return id
}

func (s *Statement) message() []byte {
	b := appendText16([]byte(statementLabel), s.Subject)
	b = appendText16(b, s.Name)
	b = append(b, s.Signing...)
	return appendText16(b, string(s.Agreement))
}

// sign makes the statement of this device.
func newStatement(id, name string, signing, agreement *secret) (*Statement, error) {
	s := &Statement{Subject: SelfCertifying(id), Name: name, Signing: signingPublic(signing)}
	var err error
	if s.Agreement, err = agreementPublic(agreement); err != nil {
		return nil, err
	}
	s.Signature = sign(signing, s.message())
	return s, nil
}

// holds tells whether the statement is one of this identity and signed. A device that asks
// to join does not know the subject yet: whose device its key is, the document tells.
func (s *Statement) holds(id string) bool {
	return (s.Subject == SelfCertifying(id) || s.Subject == "") && len(s.Signing) == ed25519.PublicKeySize &&
		ed25519.Verify(s.Signing, s.message(), s.Signature)
}

// Device is the short name of the device that speaks.
func (s *Statement) Device() string { return deviceID(s.Signing) }

// notes are taken apart. What they say is not verified before devices is asked.
type notes struct {
	statements []Statement
	recovery   []byte   // HPKE public key of the recovery recipient
	publishing [][]byte // the seeds, sealed for each device with all rights and the recovery key
}

func (n *notes) encode() []byte {
	b := []byte{notesVersion}
	b = appendText16(b, string(n.recovery))
	b = binary.BigEndian.AppendUint16(b, uint16(len(n.statements)))
	for i := range n.statements {
		s := &n.statements[i]
		b = appendText16(b, s.Subject)
		b = appendText16(b, s.Name)
		b = appendText16(b, string(s.Signing))
		b = appendText16(b, string(s.Agreement))
		b = appendText16(b, string(s.Signature))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(n.publishing)))
	for _, p := range n.publishing {
		b = appendText16(b, string(p))
	}
	return b
}

func parseNotes(b []byte) (*notes, error) {
	n := &notes{}
	if len(b) == 0 {
		return n, nil
	}
	r := reader{b: b}
	if v := r.byte(); v != notesVersion || len(b) > notesMax {
		return nil, fmt.Errorf("notes of version %d with %d bytes: %w", v, len(b), ErrInvalid)
	}
	n.recovery = bytes.Clone(r.block(2))
	count := int(r.number(2))
	for i := 0; i < count && i < statementsLimit && r.err == nil; i++ {
		s := Statement{Subject: string(r.block(2)), Name: string(r.block(2))}
		s.Signing, s.Agreement = bytes.Clone(r.block(2)), bytes.Clone(r.block(2))
		s.Signature = bytes.Clone(r.block(2))
		n.statements = append(n.statements, s)
	}
	sealed := int(r.number(2))
	for i := 0; i < sealed && r.err == nil; i++ {
		n.publishing = append(n.publishing, bytes.Clone(r.block(2)))
	}
	if err := r.close(); err != nil {
		return nil, fmt.Errorf("notes: %v: %w", err, ErrInvalid)
	}
	return n, nil
}

// add takes a statement in, in place of an older one of the same device.
func (n *notes) add(s Statement) {
	for i := range n.statements {
		if bytes.Equal(n.statements[i].Signing, s.Signing) {
			n.statements[i] = s
			return
		}
	}
	n.statements = append(n.statements, s)
}

// of returns the statements that hold, of devices that the document lists.
func (n *notes) of(doc *did.Document) []Statement {
	var out []Statement
	for _, k := range doc.KeysFor(did.Authentication) {
		public, err := k.Ed25519()
		if err != nil {
			continue
		}
		for _, s := range n.statements {
			if bytes.Equal(s.Signing, public) && s.holds(doc.ID) {
				out = append(out, s)
				break
			}
		}
	}
	return out
}

// seal keeps what is said of the devices of a document, and seals the publishing key for
// each of them and for the recovery key.
func (n *notes) seal(doc *did.Document, publishing *secret) error {
	n.statements = n.of(doc)
	if _, err := publicOf(publishing, doc.ID); err != nil && len(n.publishing) > 0 {
		// Another device has drawn the key of the present name, and sealed it: it must not
		// get lost because this one does not have it.
		if _, named := NameOf(doc.ID); named {
			return nil
		}
	}
	if n.publishing = nil; publishing == nil {
		return nil
	}
	recipients := [][]byte{n.recovery}
	for _, s := range n.statements {
		if grantOf(doc, s.Signing).Scope == ScopeFull {
			recipients = append(recipients, s.Agreement)
		}
	}
	for _, r := range recipients {
		sealed, err := sealHPKE(r, []byte(publishingInfo), publishing.bytes())
		if err != nil {
			return err
		}
		n.publishing = append(n.publishing, sealed)
	}
	return nil
}

// openPublishing returns the publishing seeds that are sealed for a key, or nil.
func (n *notes) openPublishing(agreement *secret) (*secret, error) {
	for _, p := range n.publishing {
		if b, err := openHPKE(agreement, []byte(publishingInfo), p); err == nil && len(b) > 0 && len(b)%seedSize == 0 && len(b) <= namesMax*seedSize {
			return moveSecret(b)
		}
	}
	return nil, nil
}
