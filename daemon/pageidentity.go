package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/daemon/horizon"
)

// identityWait is how long the page waits for the agent, which answers at once or is gone.
const identityWait = 5 * time.Second

// owner is an identity that knows its devices and keeps claims. auth.Client fits it.
type owner interface {
	Devices(ctx context.Context) ([]auth.Device, error)
	Claims(ctx context.Context) ([]string, error)
}

// whose is what the page tells of the identity.
type whose struct {
	devices []horizon.Device
	claims  []horizon.Claim
	asked   time.Time
}

// lookAtIdentity asks the agent, not too often.
func (p *page) lookAtIdentity(ctx context.Context) whose {
	p.mu.Lock()
	old, due := p.whose, time.Since(p.whose.asked) > shapeEvery
	if due {
		p.whose.asked = time.Now()
	}
	p.mu.Unlock()
	id, ok := p.s.p.Identity.(owner)
	if !due || !ok {
		return old
	}
	ctx, cancel := context.WithTimeout(ctx, identityWait)
	defer cancel()
	now := whose{asked: time.Now()}
	if list, err := id.Devices(ctx); err == nil {
		for _, d := range list {
			now.devices = append(now.devices, horizon.Device{Name: d.Name, ID: d.ID, This: d.ID == p.s.p.Identity.Device(),
				Reads: d.Scope == auth.ScopeRead, Until: d.Until})
		}
	}
	if jwts, err := id.Claims(ctx); err == nil {
		now.claims = p.claims(ctx, jwts)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whose = now
	return now
}

// claims verifies what is kept as far as that goes without a network, by the logs of issuers
// that are known here: the page asks nobody on the Internet because somebody looks at it.
func (p *page) claims(ctx context.Context, jwts []string) (list []horizon.Claim) {
	here := &Claims{Home: p.s.p.Home}
	all := did.NewResolver(did.NewKey(), othersLogs(p.s.p.Home))
	for _, jwt := range jwts {
		c, err := here.own(ctx, all, p.s.p.Identity.DID(), jwt)
		if err != nil {
			list = append(list, horizon.Claim{Text: claimHandle(jwt), Problem: err.Error()})
			continue
		}
		h := horizon.Claim{By: c.Issuer, Self: c.SelfSigned()}
		var said []string
		for _, name := range slices.Sorted(maps.Keys(c.Claims)) {
			said = append(said, fmt.Sprintf("%s: %v", name, c.Claims[name]))
		}
		h.Text = strings.Join(said, ", ")
		if c.Expires != nil {
			h.Until = *c.Expires
		}
		list = append(list, h)
	}
	return list
}
