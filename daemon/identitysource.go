package daemon

import (
	"context"
	"fmt"
	"os"

	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// anySCID stands for the identifier that is not known yet, where only the place counts.
const anySCID = "QmfGEUAcMpzo25kF2Rhn8L5FAXysfGnkzjwdKoNPi615XQ"

// LogSources are a file that has a log, and the web server of a domain; empty for none.
func LogSources(file, domain string) ([]LogSource, error) {
	var out []LogSource
	if file != "" {
		st, err := os.Stat(file)
		if err == nil && st.Size() > webvh.MaxLog {
			err = fmt.Errorf("%s has %d bytes, too many for a log", file, st.Size())
		}
		if err != nil {
			return nil, err
		}
		out = append(out, LogSource{Name: file, Log: func(context.Context) ([]byte, error) { return os.ReadFile(file) }})
	}
	if domain != "" {
		id, err := webvh.ParseID("did:webvh:" + anySCID + ":" + domain)
		if err != nil {
			return nil, err
		}
		web := webvh.NewHTTP(webvh.HTTPConfig{Transport: anywhere()})
		out = append(out, LogSource{Name: id.LogURL(), Log: func(ctx context.Context) ([]byte, error) { return web.Log(ctx, id) }})
	}
	return out, nil
}
