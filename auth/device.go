package auth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// A device joins an identity in two messages. It makes its keys and asks with a Request;
// a device that the document lists approves, and answers with a sealed Answer. Whoever
// carries the messages can read the request, and nothing of the answer. That he changed
// neither, the owner sees by the code of each, on both screens.

const (
	requestPEM     = "IPFSCLOUD DEVICE REQUEST"
	answerPEM      = "IPFSCLOUD DEVICE ANSWER"
	requestLabel   = "ipfscloud/v1/device-request\x00"
	answerInfo     = "ipfscloud/v1/device-answer\x00"
	requestVersion = 1
	requestMax     = 8 << 10  // bytes
	answerMax      = 32 << 20 // bytes

	codeSalt = "ipfscloud/v1/device-code"
	codeSize = 5                   // bytes of a code: 8 letters
	scanMark = "IPFSCLOUD:DEVICE:" // upper case makes a smaller QR code
)

// Request is what a new device asks with: its public keys, which its signing key vouches
// for. It holds no secret.
type Request struct {
	Name string
	// Next is the hash of its first update key, as a log commits to it.
	Next string

	statement Statement // with an empty subject: it does not know yet whose device it will be
	raw       []byte
}

// Device is the short name of the device that asks.
func (r *Request) Device() string { return r.statement.Device() }

// Encode is the request as text, to be carried over.
func (r *Request) Encode() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: requestPEM, Bytes: r.raw})
}

// Code is what the owner compares: 8 letters and digits that take a second of work to
// compute, so that nobody finds another request with the same code in time.
func (r *Request) Code() string { return codeOf(r.raw) }

// Scan is what a machine compares in place of the code: the whole hash.
func (r *Request) Scan() string {
	sum := sha256.Sum256(r.raw)
	return scanMark + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])
}

// CheckCode wants the code that was typed, or the text that was scanned, to be that of the
// request. ErrCode.
func (r *Request) CheckCode(given string) error {
	given = strings.TrimSpace(given)
	if len(given) >= len(scanMark) && strings.EqualFold(given[:len(scanMark)], scanMark) {
		if strings.EqualFold(given, r.Scan()) {
			return nil
		}
		return fmt.Errorf("the request is not the one that was scanned: %w", ErrCode)
	}
	return checkCode(given, r.raw)
}

// codeOf stretches as hard as a passphrase: 40 bits that take 0.7 s of a core a try.
func codeOf(b []byte) string {
	sum := sha256.Sum256(b)
	kdf := KDF{}.orDefault()
	key := argon2.IDKey(sum[:], []byte(codeSalt), kdf.Time, kdf.Memory, kdf.Threads, codeSize)
	text := base32.StdEncoding.EncodeToString(key)
	return text[:4] + "-" + text[4:]
}

func checkCode(given string, b []byte) error {
	plain := func(s string) string {
		return strings.NewReplacer("-", "", " ", "", "0", "O", "1", "I", "8", "B").Replace(strings.ToUpper(s))
	}
	if plain(given) != plain(codeOf(b)) { // what it would be is not said: it is to be read on the other screen
		return fmt.Errorf("%.40q is not the code of what is here: %w", given, ErrCode)
	}
	return nil
}

// newRequest makes the request of the keys of a keystore that waits.
func newRequest(c *contents, update []byte) (*Request, error) {
	s, err := newStatement("", c.name, c.signing, c.agreement)
	if err != nil {
		return nil, err
	}
	r := &Request{Name: c.name, statement: *s}
	if r.Next, err = hashOf(update); err != nil {
		return nil, err
	}
	b := r.fields()
	r.raw = appendText16(b, string(sign(c.signing, append([]byte(requestLabel), b...))))
	return r, nil
}

// fields are the request without its signature.
func (r *Request) fields() []byte {
	b := []byte{requestVersion}
	for _, f := range []string{r.Name, string(r.statement.Signing), string(r.statement.Agreement), string(r.statement.Signature), r.Next} {
		b = appendText16(b, f)
	}
	return b
}

// ParseRequest reads the text of a request and checks its signatures. ErrInvalid.
func ParseRequest(text []byte) (*Request, error) {
	block, _ := pem.Decode(bytes.ReplaceAll(text, []byte("\r"), nil))
	if block == nil || block.Type != requestPEM {
		return nil, fmt.Errorf("this is no request of a device: %w", ErrInvalid)
	}
	return ReadRequest(block.Bytes)
}

// Bytes are the request without the text around it.
func (r *Request) Bytes() []byte { return bytes.Clone(r.raw) }

// ReadRequest reads what Bytes returned. ErrInvalid.
func ReadRequest(b []byte) (*Request, error) {
	if len(b) > requestMax {
		return nil, fmt.Errorf("a request of %d bytes: %w", len(b), ErrInvalid)
	}
	b = bytes.Clone(b)
	in := reader{b: b}
	if v := in.byte(); v != requestVersion {
		return nil, fmt.Errorf("a request of version %d: %w", v, ErrInvalid)
	}
	r := &Request{raw: b}
	r.Name = string(in.block(2))
	r.statement = Statement{Name: r.Name, Signing: bytes.Clone(in.block(2)), Agreement: bytes.Clone(in.block(2)), Signature: bytes.Clone(in.block(2))}
	r.Next = string(in.block(2))
	signature := in.block(2)
	if err := in.close(); err != nil {
		return nil, fmt.Errorf("request of a device: %v: %w", err, ErrInvalid)
	}
	if len(r.Name) > deviceNameMax || !utf8.ValidString(r.Name) || len(r.Next) > 128 || !utf8.ValidString(r.Next) {
		return nil, fmt.Errorf("request of a device: its name or its key: %w", ErrInvalid)
	}
	key := r.statement.Signing
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, append([]byte(requestLabel), r.fields()...), signature) || !r.statement.holds("") {
		return nil, fmt.Errorf("request of a device: %w", ErrSignature)
	}
	return r, nil
}

// Enrol makes the keys of a device that is to join an identity, and returns its request;
// for a keystore that waits already, that of its keys. cfg.Phrase, Method and Domain are
// not used. ErrExist, ErrPassphrase.
func Enrol(ctx context.Context, cfg InitConfig) (*Request, error) {
	if sum, err := Inspect(cfg.Dir); err == nil && sum.DID == "" {
		return pending(ctx, cfg.Dir, cfg.Passphrase)
	}
	if len(cfg.DeviceName) > deviceNameMax || !utf8.ValidString(cfg.DeviceName) {
		return nil, fmt.Errorf("device name of %d bytes, at most %d of UTF-8: %w", len(cfg.DeviceName), deviceNameMax, ErrInvalid)
	}
	release, err := makeDir(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer release()
	c := &contents{name: cfg.DeviceName, extension: &extension{}}
	defer c.wipe()
	var updates *secret
	for _, to := range []**secret{&c.signing, &c.agreement, &updates} {
		if *to, err = newSecret(seedSize); err != nil {
			return nil, err
		}
		rand.Read((*to).bytes())
	}
	defer updates.wipe()
	first, err := nextKeys(updates, 0)
	if err != nil {
		return nil, err
	}
	r, err := newRequest(c, first[0])
	if err != nil {
		return nil, err
	}
	return r, store(cfg, formatLog, &Identity{Device: Device{ID: r.Device()}}, c, updates)
}

// waiting opens the keystore of a device that waits. ErrExist when it has an identity.
func waiting(ctx context.Context, dir string, passphrase []byte, use func(c *contents, updates *secret) error) error {
	return change(ctx, dir, passphrase, func(k *keystore, c *contents, master *secret, _ int) (bool, error) {
		if k.did != "" {
			return false, fmt.Errorf("%s: %w", k.did, ErrExist)
		}
		if c.phrase != nil {
			return false, fmt.Errorf("the keystore waits for the identity of a phrase: %w", ErrExist)
		}
		seeds, err := c.extension.seeds(master)
		if err != nil {
			return false, err
		}
		defer wipeAll(seeds)
		return false, use(c, seeds[0])
	})
}

func pending(ctx context.Context, dir string, passphrase []byte) (r *Request, err error) {
	err = waiting(ctx, dir, passphrase, func(c *contents, updates *secret) error {
		first, err := nextKeys(updates, 0)
		if err == nil {
			r, err = newRequest(c, first[0])
		}
		return err
	})
	return r, err
}

// Approved is a device that was let in.
type Approved struct {
	Document *did.Document
	Log      []byte
	Notes    []byte // with what the device says of itself: for the sessions that are open
}

// Approve lists a device in the document of the identity in dir, with this device's update
// key, which the passphrase opens. The caller has compared the code. A device that is
// listed as asked for already stays as it is.
//
// ErrInvalid, ErrDevice: this device has no update key. did.ErrNotSupported.
func Approve(ctx context.Context, dir string, passphrase []byte, r *Request, g Grant) (*Approved, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	out := &Approved{}
	public := r.statement.Signing
	edit := func(doc *did.Document, next *did.Change) error {
		if lists(doc, public) && grantOf(doc, public) == g {
			return errUnchanged
		}
		if lists(doc, public) { // with another scope: its update key goes, and comes again
			if err := forgetNext(ctx, dir, doc, next, func(d string) bool { return d != r.Device() }); err != nil {
				return err
			}
		}
		next.Keys = append(withoutDevice(next.Keys, public), keysOf(public, g)...)
		if len(next.Keys) > statementsLimit {
			return fmt.Errorf("%d keys are enough: %w", statementsLimit, ErrInvalid)
		}
		if g.Scope == ScopeFull {
			commitHash(next, r.Device(), r.Next)
		}
		return nil
	}
	doc, err := writeNext(ctx, dir, passphrase, plain, edit, func(doc *did.Document, c *contents) error {
		n, err := parseNotes(c.extension.notes)
		if err != nil {
			return fmt.Errorf("%w: %w", err, ErrKeystore)
		}
		n.recovery = c.recovery
		n.add(r.statement)
		if err := n.seal(doc, c.extension.publishing); err != nil {
			return err
		}
		c.extension.notes = n.encode()
		out.Notes = c.extension.notes
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Document, out.Log = doc, OwnLog(dir, doc.ID)
	return out, nil
}

// withoutDevice leaves out all keys of a device.
func withoutDevice(keys []did.Key, public []byte) []did.Key {
	var rest []did.Key
	for _, k := range keys {
		if !bytes.Equal(k.Public, public) {
			rest = append(rest, k)
		}
	}
	return rest
}

// Revoke takes a device out of the document, and its update key out of what the log has
// committed to; and with it whatever next keys are nobody's. If the DID has an IPNS name for
// its domain, it moves to that of a fresh key, which the device does not have. ErrNoDevice; ErrInvalid for
// this device itself, and what Update fails with.
func Revoke(ctx context.Context, dir string, passphrase []byte, device string) (*did.Document, error) {
	own, err := Inspect(dir)
	if err != nil {
		return nil, err
	}
	if device == own.Device {
		return nil, fmt.Errorf("a device does not revoke itself; do it on another one, or `destroy` it: %w", ErrInvalid)
	}
	return writeNext(ctx, dir, passphrase, freshName, func(doc *did.Document, next *did.Change) error {
		n := len(next.Keys)
		for _, k := range next.Keys {
			if deviceID(k.Public) == device {
				next.Keys = withoutDevice(next.Keys, k.Public)
				break
			}
		}
		if len(next.Keys) == n {
			return fmt.Errorf("%.40q: %w", device, ErrNoDevice)
		}
		staying := map[string]bool{}
		for _, k := range next.Keys {
			staying[deviceID(k.Public)] = true
		}
		return forgetNext(ctx, dir, doc, next, func(d string) bool { return staying[d] })
	}, func(doc *did.Document, c *contents) error {
		n, err := parseNotes(c.extension.notes)
		if err != nil {
			return fmt.Errorf("%w: %w", err, ErrKeystore)
		}
		if err := n.seal(doc, c.extension.publishing); err != nil {
			return err
		}
		c.extension.notes = n.encode()
		return nil
	})
}

// forgetNext makes a change forget the next keys of all devices but those that stay.
func forgetNext(ctx context.Context, dir string, doc *did.Document, next *did.Change, stays func(device string) bool) error {
	l, err := LogMethod(dir).Newest(ctx, doc.ID)
	if err != nil {
		return err
	}
	next.Forget = append(next.Forget, stale(l, stays)...)
	return nil
}

// errUnchanged: an edit has nothing to change; no version is written.
var errUnchanged = errors.New("nothing to change")
