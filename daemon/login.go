package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/login"
)

// LoginRequest is what a site or a program asks: who are you?
type LoginRequest = login.Request

// ParseLoginRequest reads its text. ErrLoginRequest.
func ParseLoginRequest(text string) (LoginRequest, error) { return login.ParseRequest(text) }

var (
	// ErrLoginRequest is a request that is not in good form.
	ErrLoginRequest = login.ErrInvalid
	// ErrSaidNo is a login that the owner has refused.
	ErrSaidNo = fmt.Errorf("the owner said no: %w", login.ErrRefused)
	// ErrSiteRefused is a login that a site has refused.
	ErrSiteRefused = errors.New("the site refuses the login")
)

// Logins answers requests with the identity of a home, once its owner has agreed.
type Logins struct {
	Home  Home
	Agent *auth.Client
}

// Asked are the claims that tell something of what a request asks for, and hold.
func (l *Logins) Asked(ctx context.Context, r LoginRequest) ([]KeptClaim, error) {
	if len(r.Claims) == 0 {
		return nil, nil
	}
	all, err := (&Claims{Home: l.Home, Agent: l.Agent}).List(ctx)
	if err != nil {
		return nil, err
	}
	var list []KeptClaim
	for _, k := range all {
		for _, name := range r.Claims {
			if k.Claim != nil && k.Claim.Claims[name] != nil {
				list = append(list, k)
				break
			}
		}
	}
	return list, nil
}

// Answer signs the answer to a request, and tells the given claims with it.
func (l *Logins) Answer(ctx context.Context, r LoginRequest, tell []KeptClaim) (string, error) {
	token, err := l.Agent.Authenticate(ctx, r.Challenge())
	if err != nil {
		return "", err
	}
	a := login.Response{IDToken: token}
	if strings.HasPrefix(l.Agent.DID(), "did:webvh:") {
		if a.Log, _, err = l.Agent.Log(ctx); err != nil {
			return "", err
		}
	}
	for _, k := range tell {
		a.Credentials = append(a.Credentials, k.JWT)
	}
	return a.Encode(), nil
}

const siteDeadline = 30 * time.Second

// Send posts an answer to the site that asked, and returns the link by which the owner's
// browser finishes there. ErrSiteRefused, ErrUnavailable.
func (l *Logins) Send(ctx context.Context, r LoginRequest, answer string) (link string, err error) {
	ctx, cancel := context.WithTimeout(ctx, siteDeadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.ResponseURI, strings.NewReader(answer))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrLoginRequest, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// What is for one origin goes to no other.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	var said struct {
		RedirectURI string `json:"redirect_uri"`
		Description string `json:"error_description"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if json.Unmarshal(b, &said) != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%w: %d: %s", ErrSiteRefused, resp.StatusCode, legible(said.Description))
	}
	if said.RedirectURI == "" {
		return "", nil
	}
	u, err := url.Parse(said.RedirectURI)
	if err != nil || u.Scheme+"://"+u.Host != r.Audience || u.User != nil {
		return "", fmt.Errorf("%w: it leads to %.200q, which is somewhere else", ErrSiteRefused, said.RedirectURI)
	}
	return u.String(), nil
}

// legible makes text of others fit for a line of a terminal.
func legible(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsGraphic(c) {
			return '?'
		}
		return c
	}, s[:min(len(s), 500)])
}
