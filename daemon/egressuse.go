package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// EgressUse is the Egress that `ipfscloud egress use` chose. What the configuration says
// goes before it.
type EgressUse struct {
	// Local: the nodes of this machine.
	Local bool `json:"local,omitempty"`
	// URLs of REST APIs of one cluster: http://…, https://… or unix:///PATH.
	URLs     []string `json:"urls,omitempty"`
	CAFile   string   `json:"ca_file,omitempty"`
	AuthFile string   `json:"auth_file,omitempty"` // holds "basic:USER:PASSWORD" or "bearer:TOKEN"
	// Peers are addresses of the nodes that keep the copies, for a device that reads and has
	// no access to the API. It fetches blocks from them and can neither list nor change pins.
	Peers []string `json:"peers,omitempty"`
}

// CheckEgressUse says whether an Egress is described rightly, and returns it with absolute paths.
// It asks nobody.
func CheckEgressUse(h Home, u EgressUse) (EgressUse, error) {
	if u.Local && len(u.URLs) > 0 {
		return u, fmt.Errorf("%w: the nodes of this machine, or URLs, but not both", ErrConfig)
	}
	for _, s := range u.URLs {
		if _, err := url.Parse(s); err != nil || !strings.Contains(s, "://") {
			return u, fmt.Errorf("%w: %q is no URL of an Egress: want http://HOST:PORT, https://HOST:PORT or unix:///PATH", ErrConfig, s)
		}
	}
	for _, f := range []*string{&u.CAFile, &u.AuthFile} {
		if *f == "" {
			continue
		}
		abs, err := filepath.Abs(*f)
		if err != nil {
			return u, err
		}
		if _, err := os.Stat(abs); err != nil {
			return u, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		*f = abs
	}
	if u.Local {
		if ok, err := hasFleet(h); err != nil || !ok {
			return u, errors.Join(err, fmt.Errorf("make them with `ipfscloud egress up`: %w", ErrNoFleet))
		}
	}
	return u, nil
}

// UseEgress remembers the Egress to use from the next mount on; the zero value is none.
func UseEgress(h Home, u EgressUse) error {
	u, err := CheckEgressUse(h, u)
	if err != nil {
		return err
	}
	if u.nothing() {
		if err := os.Remove(h.egressFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return keepState(h, "egress.json", false)
	}
	if err := h.Make(); err != nil {
		return err
	}
	b, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if err := writeFile(h.egressFile(), string(b)+"\n"); err != nil {
		return err
	}
	return keepState(h, "egress.json", true)
}

// EgressUsed is what UseEgress remembered; the zero value if that is none.
func EgressUsed(h Home) (u EgressUse, err error) {
	b, err := safefile.ReadFile(h.egressFile())
	if errors.Is(err, os.ErrNotExist) {
		return u, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &u)
	}
	if err != nil {
		return u, fmt.Errorf("%w: the Egress to use: %w", ErrConfig, err)
	}
	return u, nil
}

// egressInUse is the Egress of the configuration, or else the one that was chosen.
func (c *Config) egressInUse(h Home) (EgressUse, error) {
	if len(c.Egress.URL) > 0 {
		return EgressUse{URLs: c.Egress.URL, CAFile: c.Egress.CAFile, AuthFile: c.Egress.AuthFile}, nil
	}
	return EgressUsed(h)
}

// none: there is no API to ask.
func (u *EgressUse) none() bool { return !u.Local && len(u.URLs) == 0 }

// nothing: there are no peers to read from either.
func (u *EgressUse) nothing() bool { return u.none() && len(u.Peers) == 0 }

// meetReadable tells a node the peers that this device may read from without the API.
func (u *EgressUse) meetReadable(store fs.Store) error {
	node, ok := store.(peered)
	if !ok || len(u.Peers) == 0 {
		return nil
	}
	return node.SetPeers(u.Peers, nil) // the owner has named them, in an answer whose code was compared
}

// clusterConfig is how to reach an Egress, read anew at each start: the ports of the nodes
// of this machine may have changed.
func (u EgressUse) clusterConfig(h Home) (c cluster.Config, err error) {
	if u.Local {
		info, err := fleet.Load(h.Egress)
		if err != nil {
			return c, fmt.Errorf("the Egress of this machine: %w", err)
		}
		for _, e := range info.Endpoints {
			c.Endpoints = append(c.Endpoints, e.URL)
		}
		c.CAFile, c.User, c.Password = info.CAFile, info.Username, info.Password
		return c, nil
	}
	c.Endpoints, c.CAFile = u.URLs, u.CAFile
	if u.AuthFile == "" {
		return c, nil
	}
	b, err := safefile.ReadSecret(u.AuthFile, tokenMax)
	if err != nil {
		return c, fmt.Errorf("%w: authorization for Egress: %w", ErrConfig, err)
	}
	kind, rest, _ := strings.Cut(strings.TrimSpace(string(b)), ":")
	switch kind {
	case "bearer":
		c.Token = rest
	case "basic":
		var ok bool
		if c.User, c.Password, ok = strings.Cut(rest, ":"); !ok {
			return c, fmt.Errorf("%w: %s does not hold basic:USER:PASSWORD", ErrConfig, u.AuthFile)
		}
	default:
		return c, fmt.Errorf("%w: %s holds neither basic:USER:PASSWORD nor bearer:TOKEN", ErrConfig, u.AuthFile)
	}
	return c, nil
}
