package fleet

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/multiformats/go-multiaddr"
)

const (
	tokenPrefix   = "egress1." // 1 is the version
	checksumBytes = 6
)

// Token is what a machine must know to join a fleet. It holds the fleet's secret: whoever
// has it can hold copies, and if the fleet trusts all, change what is kept.
type Token struct {
	Cluster  string       `json:"cluster"`
	Secret   string       `json:"secret"`
	TrustAll bool         `json:"trust_all,omitempty"`
	Trusted  []string     `json:"trusted"`
	Nodes    []RemotePeer `json:"nodes"`
}

// MakeToken makes a token of the fleet in a directory, running or not.
func MakeToken(dir string) (*Token, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s, c, err := readState(dir)
	if err != nil {
		return nil, err
	}
	return s.token(c), nil
}

// Token makes a token of the fleet.
func (f *Fleet) Token() *Token {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.token(f.credentials)
}

func (s *state) token(c *credentials) *Token {
	t := &Token{Cluster: s.Cluster, Secret: c.Secret, TrustAll: s.TrustAll}
	if !s.TrustAll {
		t.Trusted = s.trusted()
	}
	s.others("", func(peer string, cluster []string, ipfs kuboPeer) {
		t.Nodes = append(t.Nodes, RemotePeer{Peer: peer, Cluster: cluster, IPFS: ipfs.ID, IPFSAddrs: ipfs.Addrs})
	})
	return t
}

// Encode is the token as a person passes it on. It is a secret.
func (t *Token) Encode() (string, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	s := tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
	return s + "." + checksum(s), nil
}

func checksum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:checksumBytes])
}

// ParseToken reads a token that Encode has made. Line breaks and spaces, as they come in
// when a text is copied, do not matter.
func ParseToken(text string) (*Token, error) {
	text = strings.Join(strings.Fields(text), "")
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrToken, tokenPrefix)
	}
	payload, sum, ok := strings.Cut(rest, ".")
	if !ok || sum != checksum(tokenPrefix+payload) {
		return nil, fmt.Errorf("%w: a part is missing or was changed", ErrToken)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	var t Token
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return &t, t.check()
}

// check refuses what would make settings that no node can start with.
func (t *Token) check() error {
	if b, err := hex.DecodeString(t.Secret); err != nil || len(b) != 32 {
		return fmt.Errorf("%w: its secret has the wrong form", ErrToken)
	}
	if len(t.Nodes) == 0 || t.Cluster == "" || len(t.Trusted) == 0 && !t.TrustAll {
		return fmt.Errorf("%w: it names no node to join", ErrToken)
	}
	for _, id := range t.Trusted {
		if err := checkID(id); err != nil {
			return fmt.Errorf("%w: %w", ErrToken, err)
		}
	}
	for _, n := range t.Nodes {
		for _, a := range n.Cluster {
			if _, err := multiaddr.NewMultiaddr(a + "/p2p/" + n.Peer); err != nil {
				return fmt.Errorf("%w: %w", ErrToken, err)
			}
		}
		for _, a := range n.IPFSAddrs {
			if _, err := multiaddr.NewMultiaddr(a + "/p2p/" + n.IPFS); err != nil {
				return fmt.Errorf("%w: %w", ErrToken, err)
			}
		}
	}
	return nil
}

// checkID refuses what is not the id of a peer.
func checkID(id string) error {
	if _, err := multiaddr.NewComponent("p2p", id); err != nil {
		return fmt.Errorf("%w: %q is no peer's id: %w", ErrConfig, id, err)
	}
	return nil
}

// Local reports whether the token is of use on the machine alone that made it.
func (t *Token) Local() bool {
	for _, n := range t.Nodes {
		for _, a := range n.Cluster {
			m, err := multiaddr.NewMultiaddr(a)
			if err != nil {
				continue
			}
			multiaddr.ForEach(m, func(c multiaddr.Component) bool {
				ip, e := netip.ParseAddr(c.Value())
				if e != nil || !ip.IsLoopback() {
					err = ErrConfig // reachable from elsewhere
				}
				return false
			})
			if err != nil {
				return false
			}
		}
	}
	return true
}
