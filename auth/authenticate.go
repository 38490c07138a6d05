package auth

import (
	"context"
	"encoding/json"
	"fmt"

	siop "github.com/cluster-labs/ipfscloud/auth/login"
)

// authenticate answers the agent's clients. They have asked the owner. A login to this
// identity itself is never a client's to answer.
func (s *Session) authenticate(ctx context.Context, req *request) ([]byte, error) {
	var q siop.Challenge
	if err := json.Unmarshal(req.Data, &q); err != nil {
		return nil, fmt.Errorf("a challenge: %w", ErrInvalid)
	}
	if err := siop.CheckAudience(q.Audience); err != nil {
		return nil, err
	}
	token, err := s.Authenticate(ctx, q)
	return []byte(token), err
}

// Authenticate answers the challenge of a site or a program with a self-issued ID token.
// Whether to answer, the owner is to be asked before. ErrInvalid for an audience that is
// neither.
func (c *Client) Authenticate(ctx context.Context, q siop.Challenge) (token string, err error) {
	b, err := json.Marshal(q)
	if err != nil {
		return "", err
	}
	resp, err := c.call(ctx, &request{Op: opAuthenticate, Data: b})
	if err != nil {
		return "", err
	}
	return string(resp.Data), nil
}
