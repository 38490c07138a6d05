package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	movedName = "moved.jwt" // beside the keystore: what the did:key says of its successor
	movedMax  = 16 << 10    // bytes
)

// Moved is what a did:key, whose document can never change, says of the DID that has taken
// its place: a JWT that its key has signed.
type Moved struct {
	Issuer      string   `json:"iss"` // the did:key
	Subject     string   `json:"sub"` // the same
	AlsoKnownAs []string `json:"alsoKnownAs"`
	IssuedAt    int64    `json:"iat"`
}

// Migrate makes a did:webvh of the identity of a did:key in cfg.Dir: the same device with
// the same keys, the same phrase, and a log whose document names the did:key under
// alsoKnownAs. The other direction a did:key cannot have in its document; it signs a
// statement, which MovedTo reads. cfg.Phrase is the identity's phrase; it may be nil while
// that is not confirmed. Of the keystore's slots the one of cfg.Passphrase stays.
//
// The did:key cannot be revoked: who has its key, as this device has, can go on to speak
// for it. ErrPhrase, ErrExist when the identity is a did:webvh already.
func Migrate(ctx context.Context, cfg InitConfig) (_ *Identity, err error) {
	release, err := lockDir(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer release()
	k, err := readKeystore(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if k.format != formatFixed {
		return nil, fmt.Errorf("%s: %w", k.did, ErrExist)
	}
	master, _, err := k.unlock(ctx, cfg.Passphrase)
	if err != nil {
		return nil, err
	}
	defer master.wipe()
	c, err := k.open(master)
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	phrase := cfg.Phrase
	if phrase == nil {
		if c.phrase == nil {
			return nil, fmt.Errorf("the phrase is needed: it makes the recovery key: %w", ErrPhrase)
		}
		s, err := copySecret(c.phrase.bytes())
		if err != nil {
			return nil, err
		}
		phrase = &Phrase{entropy: s}
		defer phrase.Wipe()
	}
	if err := ofPhrase(phrase, c); err != nil {
		return nil, err
	}
	updates, err := phrase.derive(labelUpdate)
	if err != nil {
		return nil, err
	}
	defer updates.wipe()
	// The log of a migration that did not get this far must not stand in the way.
	memory := webvh.NewMemory()
	cfg.DeviceName = c.name
	id, err := foundAs(ctx, webvh.New(webvh.Config{Verifier: webvh.Rules(), Store: memory, Portable: true}), cfg, phrase, c, updates, k.did)
	if err != nil {
		return nil, err
	}
	place, err := webvh.ParseID(id.DID)
	if err != nil {
		return nil, err
	}
	log, err := memory.Log(ctx, place)
	if err != nil {
		return nil, err
	}
	token, err := moved(k.did, id.DID, c.signing)
	if err != nil {
		return nil, err
	}
	if err := replaceFile(cfg.Dir, movedName, []byte(token+"\n")); err != nil {
		return nil, err
	}
	if err := (logStore{cfg.Dir}).Save(ctx, place, log, nil); err != nil {
		return nil, err
	}
	c.document = nil
	return id, store(cfg, formatLog, id, c, updates)
}

// ofPhrase wants the phrase to be that of the contents. ErrPhrase.
func ofPhrase(p *Phrase, c *contents) error {
	recovery, err := p.derive(labelRecovery)
	if err != nil {
		return err
	}
	defer recovery.wipe()
	public, err := agreementPublic(recovery)
	if err != nil {
		return err
	}
	if string(public) != string(c.recovery) {
		return fmt.Errorf("the phrase of another identity: %w", ErrPhrase)
	}
	return nil
}

// moved makes the statement of a did:key.
func moved(key, next string, signing *secret) (string, error) {
	doc, err := did.NewKey().Resolve(context.Background(), key)
	if err != nil {
		return "", err
	}
	kid := ""
	for _, k := range doc.KeysFor(did.AssertionMethod) {
		if p, err := k.Ed25519(); err == nil && p.Equal(signingPublic(signing)) {
			kid = k.ID
		}
	}
	if kid == "" {
		return "", fmt.Errorf("%s is not the DID of this device's key: %w", key, ErrInvalid)
	}
	h, err := json.Marshal(movedHeader{Algorithm: "EdDSA", KeyID: kid, Type: "JWT"})
	if err != nil {
		return "", err
	}
	t, err := json.Marshal(Moved{Issuer: key, Subject: key, AlsoKnownAs: []string{next}, IssuedAt: time.Now().Unix()})
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString(h) + "." + b64.EncodeToString(t)
	return signed + "." + b64.EncodeToString(sign(signing, []byte(signed))), nil
}

type movedHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// MovedTo verifies the statement of a did:key and returns that DID and the one that takes
// its place. Whether the latter names the former under alsoKnownAs, its document tells.
// ErrSignature, ErrInvalid.
func MovedTo(ctx context.Context, token string) (from, to string, err error) {
	fail := func(why string) (string, string, error) { return "", "", fmt.Errorf("%s: %w", why, ErrInvalid) }
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 || len(token) > movedMax {
		return fail("this is no statement")
	}
	b64 := base64.RawURLEncoding.Strict()
	var raw [3][]byte
	for i := range parts {
		if raw[i], err = b64.DecodeString(parts[i]); err != nil {
			return fail("the statement is not base64url")
		}
	}
	var h movedHeader
	var m Moved
	if json.Unmarshal(raw[0], &h) != nil || json.Unmarshal(raw[1], &m) != nil {
		return fail("the statement's JSON is not as expected")
	}
	if h.Algorithm != "EdDSA" || m.Issuer != m.Subject || len(m.AlsoKnownAs) != 1 || !strings.HasPrefix(h.KeyID, m.Issuer+"#") {
		return fail("the statement is not one of a DID about itself")
	}
	doc, err := did.NewKey().Resolve(ctx, m.Issuer)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	key, err := doc.Key(did.AssertionMethod, h.KeyID)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", err, ErrSignature)
	}
	public, err := key.Ed25519()
	if err != nil || !ed25519.Verify(public, []byte(parts[0]+"."+parts[1]), raw[2]) {
		return "", "", fmt.Errorf("the statement of %s: %w", m.Issuer, ErrSignature)
	}
	return m.Issuer, m.AlsoKnownAs[0], nil
}

// MovedStatement is the statement that lies beside a keystore, or "".
func MovedStatement(dir string) string {
	b, err := safefile.ReadFile(filepath.Join(dir, movedName))
	if err != nil || len(b) > movedMax {
		return ""
	}
	return strings.TrimSpace(string(b))
}
