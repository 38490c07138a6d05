package daemon

import (
	"fmt"
	"net/http"
	"net/netip"

	"github.com/cluster-labs/ipfscloud/auth/did/fetch"
)

// foreign is how a home fetches what DIDs name, of other people and of its own: from public
// servers, and from the ranges that the configuration allows. A configuration that cannot
// be read allows none.
func foreign(h Home) http.RoundTripper {
	c, err := h.LoadConfig()
	if err != nil {
		return fetch.New()
	}
	return c.foreign()
}

func (c *Config) foreign() http.RoundTripper {
	allow, err := prefixes(c.Network.DIDPrivate)
	if err != nil { // check has seen them
		return fetch.New()
	}
	return fetch.New(allow...)
}

func prefixes(texts []string) (list []netip.Prefix, err error) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%.60q is no range of addresses, as 10.0.0.0/8", text)
		}
		list = append(list, p)
	}
	return list, nil
}

// anywhere is for a domain that the owner has typed in: that it may be one of their own
// network is for them to say.
func anywhere() http.RoundTripper {
	return fetch.New(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
}
