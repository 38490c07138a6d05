package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cluster-labs/ipfscloud/auth/claim"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// The claims about an identity lie beside its keystore, sealed for the device: who they
// are about and what they say is nobody's business without a login. They are not verified
// here: whoever shows them verifies them, for what holds today may not tomorrow.
const (
	claimsName = "claims"
	claimsInfo = "ipfscloud/v1/claims"
	claimsMax  = 64
	claimMax   = 16 << 10 // bytes; all of them fit into one message of the agent
)

// SignClaim signs the payload of a credential (see claim.Payload) by this DID with this
// device's key and returns it as a JWT. claim.ErrInvalid for anything else.
func (s *Session) SignClaim(ctx context.Context, payload []byte) (jwt string, err error) {
	if err := claim.CheckPayload(s.did, payload); err != nil {
		return "", err
	}
	err = s.withKeys(ctx, func() error {
		jwt, err = claim.Sign(s.device.KeyID, payload, func(m []byte) []byte { return sign(s.keys.signing, m) })
		return err
	})
	return jwt, err
}

// Claims returns the credentials that are kept, the oldest first.
func (s *Session) Claims(ctx context.Context) (jwts []string, err error) {
	err = s.withKeys(ctx, func() error {
		jwts, err = s.readClaims()
		return err
	})
	return jwts, err
}

// KeepClaim keeps a credential beside the keystore.
func (s *Session) KeepClaim(ctx context.Context, jwt string) error {
	return s.editClaims(ctx, func(jwts []string) ([]string, error) {
		if len(jwt) > claimMax {
			return nil, fmt.Errorf("a claim of %d bytes: %w", len(jwt), ErrInvalid)
		}
		if slices.Contains(jwts, jwt) {
			return jwts, nil
		}
		if len(jwts) >= claimsMax {
			return nil, fmt.Errorf("%d claims are kept, which is the most: remove one: %w", len(jwts), ErrInvalid)
		}
		return append(jwts, jwt), nil
	})
}

// DropClaim forgets a credential; one that is not kept is no error.
func (s *Session) DropClaim(ctx context.Context, jwt string) error {
	return s.editClaims(ctx, func(jwts []string) ([]string, error) {
		return slices.DeleteFunc(jwts, func(o string) bool { return o == jwt }), nil
	})
}

func (s *Session) editClaims(ctx context.Context, edit func([]string) ([]string, error)) error {
	release, err := lockDir(ctx, s.dir)
	if err != nil {
		return err
	}
	defer release()
	return s.withKeys(ctx, func() error {
		jwts, err := s.readClaims()
		if err != nil {
			return err
		}
		if jwts, err = edit(jwts); err != nil {
			return err
		}
		b, err := json.Marshal(jwts)
		if err != nil {
			return err
		}
		public, err := agreementPublic(s.keys.agreement)
		if err != nil {
			return err
		}
		sealed, err := sealHPKE(public, []byte(claimsInfo), b)
		if err != nil {
			return err
		}
		return replaceFile(s.dir, claimsName, sealed)
	})
}

// readClaims is called with the keys held.
func (s *Session) readClaims() ([]string, error) {
	path := filepath.Join(s.dir, claimsName)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && st.Size() > 2*claimsMax*claimMax {
		err = fmt.Errorf("%d bytes: %w", st.Size(), ErrInvalid)
	}
	var sealed, b []byte
	if err == nil {
		sealed, err = safefile.ReadFile(path)
	}
	if err == nil {
		b, err = openHPKE(s.keys.agreement, []byte(claimsInfo), sealed)
	}
	var jwts []string
	if err == nil {
		err = json.Unmarshal(b, &jwts)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read; without it the claims are gone and all else works: %w", path, err)
	}
	return jwts, nil
}

// claims answers the agent's clients.
func (s *Session) claims(ctx context.Context, req *request) (resp response, err error) {
	var jwts []string
	switch req.Op {
	case opSignClaim:
		var jwt string
		jwt, err = s.SignClaim(ctx, req.Data)
		jwts = []string{jwt}
	case opClaims:
		jwts, err = s.Claims(ctx)
	case opKeepClaim:
		err = s.KeepClaim(ctx, string(req.Data))
	case opDropClaim:
		err = s.DropClaim(ctx, string(req.Data))
	}
	for _, j := range jwts {
		resp.List = append(resp.List, []byte(j))
	}
	return resp, err
}

// SignClaim is Session.SignClaim.
func (c *Client) SignClaim(ctx context.Context, payload []byte) (string, error) {
	resp, err := c.call(ctx, &request{Op: opSignClaim, Data: payload})
	if err != nil {
		return "", err
	}
	if len(resp.List) != 1 {
		return "", fmt.Errorf("the agent's answer: %w", ErrInvalid)
	}
	return string(resp.List[0]), nil
}

// Claims is Session.Claims.
func (c *Client) Claims(ctx context.Context) ([]string, error) {
	resp, err := c.call(ctx, &request{Op: opClaims})
	if err != nil {
		return nil, err
	}
	var jwts []string
	for _, j := range resp.List {
		jwts = append(jwts, string(j))
	}
	return jwts, nil
}

// KeepClaim is Session.KeepClaim.
func (c *Client) KeepClaim(ctx context.Context, jwt string) error {
	_, err := c.call(ctx, &request{Op: opKeepClaim, Data: []byte(jwt)})
	return err
}

// DropClaim is Session.DropClaim.
func (c *Client) DropClaim(ctx context.Context, jwt string) error {
	_, err := c.call(ctx, &request{Op: opDropClaim, Data: []byte(jwt)})
	return err
}
