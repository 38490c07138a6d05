package auth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	siop "github.com/cluster-labs/ipfscloud/auth/login"
)

// loginAudience is whom a local login answers to.
const loginAudience = "urn:ipfscloud:login"

// Session is a login of one device. Its methods may be called from several goroutines;
// after Close they give ErrClosed. It has the methods of fs.Identity.
type Session struct {
	dir      string
	did      string
	device   Device
	recovery []byte // HPKE public key
	resolver *did.Resolver
	history  bool // the DID has a log, which lies in dir
	since    time.Time

	// Lock order: keys before document. An operation holds keys for reading.
	keys struct {
		sync.RWMutex
		signing    *secret // nil after Close
		agreement  *secret
		recovery   *secret // nil unless the phrase was given
		publishing *secret // nil where the identity has none
	}
	document struct {
		sync.Mutex
		newest *did.Document
		log    []byte     // its log, where it has one
		past   *webvh.Log // the same, verified
		stamp  stamp      // of the log's file
		notes  *notes     // of the devices; nil where the identity has none
	}
}

// WhoAmI describes a session; nothing of it is secret.
type WhoAmI struct {
	DID           string    `json:"did"`
	Device        string    `json:"device"`
	DeviceName    string    `json:"device_name"`
	KeyID         string    `json:"key_id"`
	Version       string    `json:"version"` // of the DID document
	PhrasePending bool      `json:"phrase_pending"`
	Since         time.Time `json:"since"`
	PID           int       `json:"pid"`     // of the process that holds the keys
	Holders       []string  `json:"holders"` // who holds the session now
}

// Login unlocks the keystore in dir, resolves the identity's own DID, checks that this
// device stands in the document and that the document is not older than the newest one
// seen, answers a fresh challenge, and opens a session. Close it.
//
// ErrNoIdentity, ErrPassphrase, ErrKeystore, ErrAwaits, ErrRefused (ErrDevice and
// ErrDeactivated among them), ErrRollback, ErrUnavailable.
func Login(ctx context.Context, dir string, passphrase []byte) (*Session, error) {
	return LoginWith(ctx, dir, passphrase, Resolver(dir))
}

// LoginWith is Login with a resolver of the caller's.
func LoginWith(ctx context.Context, dir string, passphrase []byte, r *did.Resolver) (_ *Session, err error) {
	k, err := readKeystore(dir)
	if err != nil {
		return nil, err
	}
	master, _, err := k.unlock(ctx, passphrase)
	if err != nil {
		return nil, err
	}
	defer master.wipe()
	c, err := k.open(master)
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	if k.did == "" {
		if c.phrase == nil {
			return nil, ErrEnrols
		}
		return nil, ErrAwaits
	}
	id := k.did
	if k.format == formatLog { // it may have moved, and its keys' ids with it
		if id, err = standing(ctx, k.did, r, c); err != nil {
			return nil, err
		}
	}
	s, err := newSession(dir, id, r, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.wipe()
		}
	}()
	if k.format == formatFixed && isDevice(k.device, s.device.Signing) {
		s.device.ID = k.device // one of several machines with this key
	}
	if k.device != s.device.ID {
		return nil, fmt.Errorf("the keystore of device %.40q holds the key of %s: %w", k.device, s.device.ID, ErrKeystore)
	}
	challenger := siop.NewChallenger(loginAudience, nil)
	q := challenger.New()
	token, err := s.Authenticate(ctx, q)
	if err != nil {
		return nil, err
	}
	doc, err := challenger.Verify(ctx, token, r, c.version)
	if err != nil {
		return nil, err
	}
	if err := s.accept(ctx, doc); err != nil {
		return nil, err
	}
	if doc.Version != c.version {
		if err := remember(ctx, dir, master, doc); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// standing resolves a DID that has a log, sees that the document lists this device, and
// returns the DID as it is now. The contents learn the id of the device's key.
func standing(ctx context.Context, id string, r *did.Resolver, c *contents) (string, error) {
	doc, err := r.Resolve(ctx, id)
	if errors.Is(err, did.ErrNotFound) {
		return "", fmt.Errorf("%w: %w", err, ErrLog)
	}
	if err != nil {
		return "", siop.Refusal(err)
	}
	if !doc.Version.Follows(c.version) {
		return "", fmt.Errorf("version %s of %s, seen before was %s: %w", doc.Version, doc.ID, c.version, ErrRollback)
	}
	if doc.Deactivated {
		return "", fmt.Errorf("%s: %w", doc.ID, ErrDeactivated)
	}
	public := signingPublic(c.signing)
	for _, k := range doc.KeysFor(did.Authentication) {
		if p, err := k.Ed25519(); err == nil && p.Equal(public) {
			c.keyID = k.ID
			return doc.ID, nil
		}
	}
	return "", fmt.Errorf("%s in version %s of %s: %w", deviceID(public), doc.Version, doc.ID, ErrDevice)
}

// newSession takes the keys out of c, which the caller wipes.
func newSession(dir, id string, r *did.Resolver, c *contents) (_ *Session, err error) {
	s := &Session{dir: dir, did: id, recovery: c.recovery, resolver: r, since: time.Now()}
	public := signingPublic(c.signing)
	s.device = Device{ID: deviceID(public), Name: c.name, KeyID: c.keyID, Signing: public}
	if s.device.Agreement, err = agreementPublic(c.agreement); err != nil {
		return nil, err
	}
	s.keys.signing, c.signing = c.signing, nil
	s.keys.agreement, c.agreement = c.agreement, nil
	if x := c.extension; x != nil {
		s.history = true
		s.keys.publishing, x.publishing = x.publishing, nil
		if s.document.notes, err = parseNotes(x.notes); err != nil {
			s.wipe()
			return nil, fmt.Errorf("%w: %w", err, ErrKeystore)
		}
	}
	return s, nil
}

// remember writes down the newest document, so that an older one is refused from now on.
func remember(ctx context.Context, dir string, master *secret, doc *did.Document) error {
	release, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer release()
	k, err := readKeystore(dir) // it may have changed since the login began
	if err != nil {
		return err
	}
	c, err := k.open(master)
	if err != nil {
		return err
	}
	defer c.wipe()
	if doc.Version == c.version {
		return nil
	}
	if !doc.Version.Follows(c.version) {
		return fmt.Errorf("version %s of %s, seen meanwhile was %s: %w", doc.Version, doc.ID, c.version, ErrRollback)
	}
	c.version = doc.Version
	if k.format == formatFixed { // else its log lies beside the keystore
		c.document = doc.Raw()
	}
	if err := k.seal(master, c); err != nil {
		return err
	}
	return k.write(dir)
}

// DID of the identity.
func (s *Session) DID() string { return s.did }

// Device is the short name of this device: lower-case letters and digits.
func (s *Session) Device() string { return s.device.ID }

// ThisDevice describes this device.
func (s *Session) ThisDevice() Device { return s.device }

// Devices are the devices that the newest document lists. Their names, and their keys for
// wrapping, are those that they have signed; empty where no statement of theirs is known.
func (s *Session) Devices(ctx context.Context) ([]Device, error) {
	doc, err := s.newest(ctx)
	if err != nil {
		return nil, err
	}
	var list []Device
	for _, k := range doc.KeysFor(did.Authentication) {
		public, err := k.Ed25519()
		if err != nil {
			continue // no kind of key that our devices have
		}
		d := Device{ID: deviceID(public), KeyID: k.ID, Signing: public, Grant: grantOf(doc, public)}
		if public.Equal(ed25519.PublicKey(s.device.Signing)) {
			d.ID, d.Name, d.Agreement = s.device.ID, s.device.Name, s.device.Agreement
		}
		for _, n := range s.statements(doc) {
			if n.Signing.Equal(public) && d.Agreement == nil {
				d.Name, d.Agreement = n.Name, n.Agreement
			}
		}
		list = append(list, d)
	}
	return list, nil
}

// withKeys runs f while the keys are there.
func (s *Session) withKeys(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.keys.RLock()
	defer s.keys.RUnlock()
	if s.keys.signing == nil {
		return ErrClosed
	}
	return f()
}

// Sign signs msg with this device's key (Ed25519). msg begins with a purpose,
// "ipfscloud/v1/<label>" and a NUL; anything else is ErrPurpose.
func (s *Session) Sign(ctx context.Context, msg []byte) (sig []byte, err error) {
	if err := checkPurpose(msg); err != nil {
		return nil, err
	}
	err = s.withKeys(ctx, func() error {
		sig = sign(s.keys.signing, msg)
		return nil
	})
	return sig, err
}

// Authenticate answers a challenge with a self-issued ID token.
func (s *Session) Authenticate(ctx context.Context, q siop.Challenge) (token string, err error) {
	err = s.withKeys(ctx, func() error {
		token, err = siop.Answer(q, s.did, s.device.KeyID, time.Now(), func(m []byte) []byte { return sign(s.keys.signing, m) })
		return err
	})
	return token, err
}

// Verify checks that a device that the newest document lists has signed msg, which begins
// with a purpose. ErrSignature, ErrPurpose.
func (s *Session) Verify(ctx context.Context, device string, msg, sig []byte) error {
	if err := checkPurpose(msg); err != nil {
		return err
	}
	doc, err := s.newest(ctx)
	if err != nil {
		return err
	}
	return VerifyDevice(doc, device, msg, sig)
}

// VerifyDevice checks that a device that a document lists has signed msg. ErrSignature.
func VerifyDevice(doc *did.Document, device string, msg, sig []byte) error {
	for _, k := range doc.KeysFor(did.Authentication) {
		public, err := k.Ed25519()
		if err != nil || !names(doc, device, public) {
			continue
		}
		if len(sig) != ed25519.SignatureSize || !ed25519.Verify(public, msg, sig) {
			return fmt.Errorf("device %s: %w", device, ErrSignature)
		}
		return nil
	}
	return fmt.Errorf("device %.40q is not in the document of %s: %w", device, doc.ID, ErrSignature)
}

// OpenWrapped opens an HPKE ciphertext (MLKEM768-X25519, HKDF-SHA256, AES-256-GCM; base
// mode; encapsulated key and ciphertext joined) that was sealed to this device, or to the
// recovery key if UsePhrase has brought it. ErrNotRecipient.
func (s *Session) OpenWrapped(ctx context.Context, info, sealed []byte) (plain []byte, err error) {
	err = s.withKeys(ctx, func() error {
		plain, err = openHPKE(s.keys.agreement, info, sealed)
		if errors.Is(err, ErrNotRecipient) && s.keys.recovery != nil {
			plain, err = openHPKE(s.keys.recovery, info, sealed)
		}
		return err
	})
	return plain, err
}

// UsePhrase lets OpenWrapped use the recovery key too, for this session. It must be the
// identity's phrase, else ErrPhrase. The phrase stays the caller's.
func (s *Session) UsePhrase(ctx context.Context, p *Phrase) error {
	recovery, err := p.derive(labelRecovery)
	if err != nil {
		return err
	}
	public, err := agreementPublic(recovery)
	if err == nil && string(public) != string(s.recovery) {
		err = fmt.Errorf("the phrase of another identity: %w", ErrPhrase)
	}
	if err != nil {
		recovery.wipe()
		return err
	}
	s.keys.Lock()
	defer s.keys.Unlock()
	if s.keys.signing == nil {
		recovery.wipe()
		return ErrClosed
	}
	s.keys.recovery.wipe()
	s.keys.recovery = recovery
	return nil
}

// Recipients are the HPKE public keys (MLKEM768-X25519) that a vault key is wrapped for:
// those of the devices in the newest document, this one first, and the recovery key's.
func (s *Session) Recipients(ctx context.Context) ([][]byte, error) {
	devices, err := s.Devices(ctx)
	if err != nil {
		return nil, err
	}
	list := [][]byte{bytes.Clone(s.device.Agreement)}
	for _, d := range devices {
		if d.ID != s.device.ID && d.Agreement != nil {
			list = append(list, bytes.Clone(d.Agreement))
		}
	}
	return append(list, bytes.Clone(s.recovery)), nil
}

// PhrasePending tells whether the recovery phrase still waits for its confirmation: until
// then the identity is lost with this machine.
func (s *Session) PhrasePending() bool {
	sum, err := Inspect(s.dir) // another process may have confirmed it
	return err == nil && sum.PhrasePending
}

// WhoAmI describes the session.
func (s *Session) WhoAmI(ctx context.Context) (WhoAmI, error) {
	doc, err := s.newest(ctx)
	if err != nil {
		return WhoAmI{}, err
	}
	return WhoAmI{
		DID: s.did, Device: s.device.ID, DeviceName: s.device.Name, KeyID: s.device.KeyID,
		Version: doc.Version.ID, PhrasePending: s.PhrasePending(), Since: s.since, PID: os.Getpid(),
	}, nil
}

// Close ends the session and wipes its keys. It waits for operations under way.
func (s *Session) Close() error {
	s.wipe()
	return nil
}

func (s *Session) wipe() {
	s.keys.Lock()
	defer s.keys.Unlock()
	s.keys.signing.wipe()
	s.keys.agreement.wipe()
	s.keys.recovery.wipe()
	s.keys.publishing.wipe()
	s.keys.signing, s.keys.agreement, s.keys.recovery, s.keys.publishing = nil, nil, nil, nil
}

// Format prints the DID and nothing else, for every verb.
func (s *Session) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "session of "+s.did) }
