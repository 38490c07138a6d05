package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const deviceNameMax = 64 // bytes

// InitConfig says what identity to make.
type InitConfig struct {
	// Dir is the keystore directory; it is made with mode 0700 where missing.
	Dir string
	// Passphrase seals the keystore. It is neither kept nor changed; it may not be empty.
	Passphrase []byte
	// Method of the DID: "webvh" (also when empty) or "key".
	Method string
	// Domain is where a did:webvh will be found, as it stands in the DID
	// ("example.com:ada"); empty is the host name that a gateway gives to the IPNS name of
	// the identity's publishing key. Nothing is published there by itself.
	Domain string
	// Phrase restores the did:key of an earlier phrase; nil makes a new one. It stays the
	// caller's. A did:webvh is restored from its log as well: see Await and Restore.
	Phrase *Phrase
	// DeviceName is a name for people, at most 64 bytes of UTF-8; the host's name is a
	// good one.
	DeviceName string
	// KDF of the passphrase's slot; the zero value is the default.
	KDF KDF
	// Resolver of DIDs; nil is DefaultResolver().
	Resolver *did.Resolver

	// first makes the keystore's slot; nil makes that of the passphrase. A test that makes
	// thousands of keystores has no time for Argon2.
	first slotMaker
}

// Identity is a new identity, as Init made it.
type Identity struct {
	DID    string
	Device Device
	// Phrase is what the owner must write down; nil for a restored identity. Wipe it
	// after use.
	Phrase *Phrase
}

// DefaultResolver knows the method that needs no state: did:key.
func DefaultResolver() *did.Resolver { return did.NewResolver(did.NewKey()) }

// Init makes an identity and its keystore: the keys follow from a recovery phrase, a
// fresh one or the one given. The same phrase makes the same keys, and of the method key
// the same DID. A fresh phrase stays in the keystore until ConfirmPhrase.
//
// ErrExist when Dir holds an identity already, ErrInvalid, did.ErrUnsupportedMethod.
func Init(ctx context.Context, cfg InitConfig) (_ *Identity, err error) {
	if cfg.Method == "" {
		cfg.Method = "webvh"
	}
	if cfg.Method == "webvh" && cfg.Phrase != nil {
		return nil, fmt.Errorf("a did:webvh is restored from its log, not from the phrase alone: %w", ErrInvalid)
	}
	if cfg.Domain != "" && cfg.Method != "webvh" {
		return nil, fmt.Errorf("did:%s has no domain: %w", cfg.Method, ErrInvalid)
	}
	if cfg.Resolver == nil {
		cfg.Resolver = Resolver(cfg.Dir)
	}
	if len(cfg.DeviceName) > deviceNameMax || !utf8.ValidString(cfg.DeviceName) {
		return nil, fmt.Errorf("device name of %d bytes, at most %d of UTF-8: %w", len(cfg.DeviceName), deviceNameMax, ErrInvalid)
	}
	method, err := cfg.Resolver.Method(cfg.Method)
	if err != nil {
		return nil, err
	}
	release, err := makeDir(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer release()

	phrase := cfg.Phrase
	if phrase == nil {
		if phrase, err = NewPhrase(); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				phrase.Wipe()
			}
		}()
	}
	c, err := deriveContents(phrase)
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	var id *Identity
	format, guarded := byte(formatFixed), (*secret)(nil)
	if cfg.Method == "webvh" {
		format = formatLog
		if guarded, err = phrase.derive(labelUpdate); err != nil {
			return nil, err
		}
		defer guarded.wipe()
		id, err = found(ctx, method, cfg, phrase, c, guarded)
	} else {
		id, err = identify(ctx, method, cfg.DeviceName, c)
		if err == nil && cfg.Phrase != nil { // the machine of which it was may be in use still
			id.Device.ID = newInstance(id.Device.ID)
		}
	}
	if err != nil {
		return nil, err
	}
	if cfg.Phrase == nil {
		if c.phrase, err = copySecret(phrase.entropy.bytes()); err != nil {
			return nil, err
		}
		id.Phrase = phrase
	}
	return id, store(cfg, format, id, c, guarded)
}

// store writes a new keystore; guarded is the seed of its update keys, if it has any.
func store(cfg InitConfig, format byte, id *Identity, c *contents, guarded *secret) error {
	first := cfg.first
	if first == nil {
		first = func(k *keystore, master *secret) (slot, error) { return k.newSlot(master, cfg.Passphrase, cfg.KDF) }
	}
	k, master, err := newKeystore(format, id.DID, id.Device.ID, first)
	if err != nil {
		return err
	}
	defer master.wipe()
	if guarded != nil {
		if err := c.extension.setGuarded(master, guarded); err != nil {
			return err
		}
	}
	if err := k.seal(master, c); err != nil {
		return err
	}
	return k.write(cfg.Dir)
}

// makeDir makes and locks the keystore directory, and sees that it holds no identity.
func makeDir(ctx context.Context, dir string) (func(), error) {
	if dir == "" {
		return nil, fmt.Errorf("no keystore directory: %w", ErrInvalid)
	}
	if err := safefile.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("making the keystore directory: %w", err)
	}
	release, err := lockDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	_, err = os.Lstat(filepath.Join(dir, keystoreName))
	if errors.Is(err, fs.ErrNotExist) {
		return release, nil
	}
	release()
	if err != nil {
		return nil, fmt.Errorf("looking for a keystore: %w", err)
	}
	return nil, fmt.Errorf("%s: %w", dir, ErrExist)
}

// deriveContents makes the keys of a phrase.
func deriveContents(p *Phrase) (_ *contents, err error) {
	c := &contents{}
	defer func() {
		if err != nil {
			c.wipe()
		}
	}()
	if c.signing, err = p.derive(labelSigning); err != nil {
		return nil, err
	}
	if c.agreement, err = p.derive(labelAgreement); err != nil {
		return nil, err
	}
	recovery, err := p.derive(labelRecovery)
	if err != nil {
		return nil, err
	}
	defer recovery.wipe()
	c.recovery, err = agreementPublic(recovery)
	return c, err
}

// identify makes the DID of the keys and completes the contents with it.
func identify(ctx context.Context, method did.Method, name string, c *contents) (*Identity, error) {
	public := signingPublic(c.signing)
	doc, err := method.Create(ctx, did.Change{Keys: []did.Key{{
		Type: did.Ed25519, Public: public,
		Relationships: []did.Relationship{did.Authentication, did.AssertionMethod},
	}}}, seedSigner{c.signing})
	if err != nil {
		return nil, fmt.Errorf("making a did:%s: %w", method.Name(), err)
	}
	id, err := listed(doc, name, c)
	if err != nil {
		return nil, err
	}
	c.document = doc.Raw()
	return id, nil
}

// listed finds the device of the contents in a document and completes the contents with
// what stands there. ErrDevice.
func listed(doc *did.Document, name string, c *contents) (*Identity, error) {
	public := signingPublic(c.signing)
	device := Device{ID: deviceID(public), Name: name, Signing: public}
	for _, k := range doc.KeysFor(did.Authentication) {
		if pub, err := k.Ed25519(); err == nil && pub.Equal(public) {
			device.KeyID = k.ID
		}
	}
	if device.KeyID == "" {
		return nil, fmt.Errorf("device %s in version %s of %s: %w", device.ID, doc.Version, doc.ID, ErrDevice)
	}
	var err error
	if device.Agreement, err = agreementPublic(c.agreement); err != nil {
		return nil, err
	}
	c.name, c.keyID, c.version = name, device.KeyID, doc.Version
	return &Identity{DID: doc.ID, Device: device}, nil
}

// seedSigner signs changes of a DID document.
type seedSigner struct{ seed *secret }

func (s seedSigner) Public() []byte { return signingPublic(s.seed) }

func (s seedSigner) Sign(_ context.Context, msg []byte) ([]byte, error) {
	return sign(s.seed, msg), nil
}
