package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// Answer is what a new device is told: the identity that it is a device of from now on,
// and where the vault stands.
type Answer struct {
	DID     string `json:"did"`
	Version string `json:"version"` // of the DID document, at least
	// Log and Notes may be left out where the vault's newest commit is to be had: it has them.
	Log   []byte `json:"log,omitempty"`
	Notes []byte `json:"notes,omitempty"`
	// Vault is the caller's: it is not looked at here.
	Vault json.RawMessage `json:"vault,omitempty"`
}

// Seal seals an answer for the device of a request.
func (r *Request) Seal(a Answer) ([]byte, error) {
	b, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("answer to a device: %w", err)
	}
	sealed, err := sealHPKE(r.statement.Agreement, append([]byte(answerInfo), r.raw...), b)
	if err != nil {
		return nil, err
	}
	return AnswerText(sealed), nil
}

// AnswerText puts the text around an answer.
func AnswerText(sealed []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: answerPEM, Bytes: sealed})
}

// AnswerBytes are an answer without the text around it. ErrInvalid.
func AnswerBytes(text []byte) ([]byte, error) {
	if len(text) > 2*answerMax {
		return nil, fmt.Errorf("an answer of %d bytes: %w", len(text), ErrInvalid)
	}
	block, _ := pem.Decode(bytes.ReplaceAll(text, []byte("\r"), nil))
	if block == nil || block.Type != answerPEM {
		return nil, fmt.Errorf("this is no answer to a device: %w", ErrInvalid)
	}
	return block.Bytes, nil
}

// AnswerCode is the code of an answer, which both devices show. ErrInvalid.
func AnswerCode(text []byte) (string, error) {
	b, err := AnswerBytes(text)
	if err != nil {
		return "", err
	}
	return codeOf(b), nil
}

// CheckAnswer wants the code of an answer to be what the owner has read on the other
// device: without it, anybody who saw the request could make this a device of his own
// identity, and be given what is written here. ErrCode, ErrInvalid.
func CheckAnswer(text []byte, given string) error {
	b, err := AnswerBytes(text)
	if err != nil {
		return err
	}
	return checkCode(given, b)
}

// Join makes the keystore in cfg.Dir, which waits, one of the identity of an answer. The
// caller has compared the code. ErrNotRecipient: the answer is to another device, or to an
// earlier request. ErrDevice: the document does not list this device.
//
// complete is called with an answer that has no log, and finds it; open opens what is sealed
// to this device.
func Join(ctx context.Context, cfg InitConfig, text []byte,
	complete func(a *Answer, open func(ctx context.Context, info, sealed []byte) ([]byte, error)) error,
) (*Identity, *Answer, error) {
	sealed, err := AnswerBytes(text)
	if err != nil {
		return nil, nil, err
	}
	var a Answer
	var id *Identity
	var joined *contents
	var updates *secret
	defer func() {
		if joined != nil {
			joined.wipe()
		}
		updates.wipe()
	}()
	err = waiting(ctx, cfg.Dir, cfg.Passphrase, func(c *contents, seed *secret) error {
		first, err := nextKeys(seed, 0)
		if err != nil {
			return err
		}
		r, err := newRequest(c, first[0])
		if err != nil {
			return err
		}
		b, err := openHPKE(c.agreement, append([]byte(answerInfo), r.raw...), sealed)
		if err != nil {
			return fmt.Errorf("the answer is not for this device: %w", err)
		}
		if err := json.Unmarshal(b, &a); err != nil {
			return fmt.Errorf("the answer: %v: %w", err, ErrInvalid)
		}
		if a.Log == nil && complete != nil {
			err := complete(&a, func(_ context.Context, info, sealed []byte) ([]byte, error) {
				return openHPKE(c.agreement, info, sealed)
			})
			if err != nil {
				return err
			}
		}
		if updates, err = copySecret(seed.bytes()); err != nil {
			return err
		}
		joined = &contents{name: c.name, extension: &extension{notes: a.Notes}}
		if joined.signing, err = copySecret(c.signing.bytes()); err != nil {
			return err
		}
		joined.agreement, err = copySecret(c.agreement.bytes())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	l, err := verifyLog(ctx, Found{DID: a.DID, Log: a.Log})
	if err != nil {
		return nil, nil, err
	}
	if !l.Contains(a.Version) {
		return nil, nil, fmt.Errorf("the answer speaks of version %.80q, and the log ends at %s: %w", a.Version, l.Last().VersionID, ErrRollback)
	}
	doc, err := l.Document()
	if err != nil {
		return nil, nil, err
	}
	n, err := parseNotes(a.Notes)
	if err != nil {
		return nil, nil, err
	}
	joined.recovery = n.recovery
	if joined.extension.publishing, err = n.openPublishing(joined.agreement); err != nil {
		return nil, nil, err
	}
	if id, err = enrolled(doc, joined.name, joined); err != nil {
		return nil, nil, err
	}
	release, err := replaceDir(ctx, cfg.Dir, cfg.Passphrase)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if err := (logStore{cfg.Dir}).Save(ctx, webvh.ID{}, l.Bytes(), nil); err != nil {
		return nil, nil, err
	}
	if err := store(cfg, formatLog, id, joined, updates); err != nil {
		return nil, nil, err
	}
	return id, &a, nil
}

// ReadAnswer opens a newer answer to the request with which the device in dir has joined.
// The caller has compared the code. ErrNotRecipient: the answer is to another device or
// request. ErrInvalid: it is about another identity.
func ReadAnswer(ctx context.Context, dir string, passphrase, text []byte) (*Answer, error) {
	sealed, err := AnswerBytes(text)
	if err != nil {
		return nil, err
	}
	var a Answer
	err = change(ctx, dir, passphrase, func(k *keystore, c *contents, master *secret, _ int) (bool, error) {
		if c.extension == nil {
			return false, fmt.Errorf("a did:key has no devices: %w", ErrInvalid)
		}
		seeds, err := c.extension.seeds(master)
		if err != nil {
			return false, err
		}
		defer wipeAll(seeds)
		first, err := nextKeys(seeds[len(seeds)-1], 0)
		if err != nil {
			return false, err
		}
		r, err := newRequest(c, first[0])
		if err != nil {
			return false, err
		}
		b, err := openHPKE(c.agreement, append([]byte(answerInfo), r.raw...), sealed)
		if err != nil {
			return false, fmt.Errorf("the answer is not for this device: %w", err)
		}
		defer clear(b)
		if err := json.Unmarshal(b, &a); err != nil {
			return false, fmt.Errorf("the answer: %v: %w", err, ErrInvalid)
		}
		if SelfCertifying(a.DID) != SelfCertifying(k.did) {
			return false, fmt.Errorf("the answer is about %.200s, this is a device of %s: %w", a.DID, k.did, ErrInvalid)
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	return &a, nil
}

// Waits tells whether the keystore in a directory has the keys of a device that waits for
// its approval, as far as that can be told without the passphrase; one that waits for the
// identity of a phrase looks the same.
func Waits(dir string) bool {
	sum, err := Inspect(dir)
	return err == nil && sum.DID == ""
}

// enrols tells apart what Waits does not.
func enrols(err error) error {
	if errors.Is(err, ErrConfirmed) {
		return ErrEnrols
	}
	return err
}
