package webvh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
)

// signer is a key of a test.
type signer struct{ key ed25519.PrivateKey }

func testSigner(b byte) signer {
	return signer{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))}
}

func (s signer) Public() []byte { return s.key.Public().(ed25519.PublicKey) }

func (s signer) Sign(_ context.Context, msg []byte) ([]byte, error) {
	return ed25519.Sign(s.key, msg), nil
}

func (s signer) multikey() string {
	k, err := did.Multikey(did.Ed25519, s.Public())
	if err != nil {
		panic(err)
	}
	return k
}

func (s signer) id() string { return "did:key:" + s.multikey() }

type object = map[string]any

// forger writes logs that nobody checked: each entry hashes and is signed as it should,
// whatever it says.
type forger struct {
	t     *testing.T
	lines [][]byte
	scid  string
	at    time.Time
}

func newForger(t *testing.T) *forger {
	return &forger{t: t, at: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// add writes an entry with parameters; change may alter the body before it is hashed.
func (f *forger) add(params object, change func(body object), signers ...did.Signer) *forger {
	f.t.Helper()
	n := len(f.lines) + 1
	id := prefix + placeholder + ":example.com"
	before := placeholder
	if n > 1 {
		id = prefix + f.scid + ":example.com"
		e, err := parseVersion(f.lines[n-2])
		if err != nil {
			f.t.Fatal(err)
		}
		before = e
	}
	f.at = f.at.Add(time.Hour)
	body := object{
		"versionId": before, "versionTime": f.at.Format(time.RFC3339), "parameters": params,
		"state": object{"@context": []any{"https://www.w3.org/ns/did/v1"}, "id": id},
	}
	if change != nil {
		change(body)
	}
	if n == 1 {
		text, err := jcs.Marshal(body)
		if err != nil {
			f.t.Fatal(err)
		}
		f.scid = hashText(text)
		if body, err = jcs.Object(bytes.ReplaceAll(text, []byte(placeholder), []byte(f.scid))); err != nil {
			f.t.Fatal(err)
		}
	}
	return f.seal(n, body, signers)
}

func (f *forger) seal(n int, body object, signers []did.Signer) *forger {
	f.t.Helper()
	v := Verifier{Now: func() time.Time { return f.at }}
	line, err := v.sealed(context.Background(), n, body, signers)
	if err != nil {
		f.t.Fatal(err)
	}
	f.lines = append(f.lines, line)
	return f
}

func parseVersion(line []byte) (string, error) {
	o, err := jcs.Object(line)
	if err != nil {
		return "", err
	}
	v, _ := o["versionId"].(string)
	return v, nil
}

func (f *forger) version(n int) string {
	f.t.Helper()
	v, err := parseVersion(f.lines[n-1])
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func (f *forger) log() []byte { return append(bytes.Join(f.lines, []byte("\n")), '\n') }

func (f *forger) id() string { return prefix + f.scid + ":example.com" }

// genesis are the parameters of a first entry with one update key.
func genesis(s signer, more ...any) object {
	p := object{"method": Method10, "scid": placeholder, "updateKeys": []any{s.multikey()}}
	for i := 0; i < len(more); i += 2 {
		p[more[i].(string)] = more[i+1]
	}
	return p
}

func keys(signers ...signer) []any {
	list := []any{}
	for _, s := range signers {
		list = append(list, s.multikey())
	}
	return list
}

func hashes(signers ...signer) []any {
	list := []any{}
	for _, s := range signers {
		list = append(list, HashKey(s.multikey()))
	}
	return list
}

func witnesses(threshold int, signers ...signer) object {
	list := []any{}
	for _, s := range signers {
		list = append(list, object{"id": s.id()})
	}
	return object{"threshold": float64(threshold), "witnesses": list}
}

// set alters the body of an entry.
func set(name string, v any) func(object) { return func(body object) { body[name] = v } }

func setState(name string, v any) func(object) {
	return func(body object) { body["state"].(object)[name] = v }
}
