package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
)

// inNames looks for logs under the IPNS names that are the phrase's or were given. Without
// a node for it, there is nothing to ask.
func (s IdentitySearch) inNames(ctx context.Context, found []clue) ([]clue, error) {
	names, err := openNames(s.Home, s.Config)
	if errors.Is(err, ErrNoNetwork) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer names.Close()
	own, err := s.Phrase.PublishedName()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, nameWait)
	defer cancel()
	// A node of the user's own has met others long ago.
	return followNames(ctx, append(namedLogs(s.Domains...), own), s.known(ctx, found), func(name string) ([]byte, error) {
		return readName(ctx, names, name, s.Config.IPFS == "")
	})
}

// known are the IPNS names of the logs that were found elsewhere.
func (s IdentitySearch) known(ctx context.Context, found []clue) (names []string) {
	for _, c := range found {
		names = append(names, namesIn(ctx, c.log)...)
	}
	return names
}

// maxNames bounds the names that a search asks for: a log that is made for it may name many.
const maxNames = 8

// followNames reads the logs under IPNS names, and under those that these logs say the DID
// has now: a revoked device can withhold what is new under a name whose key it had, and has
// no part in the name that came after it. Which of the logs counts their signatures tell.
func followNames(ctx context.Context, own, more []string, read func(name string) ([]byte, error)) (out []clue, err error) {
	todo := append(slices.Clone(own), more...)
	asked := map[string]bool{}
	for len(todo) > 0 && len(asked) < maxNames {
		name := todo[0]
		if todo = todo[1:]; asked[name] {
			continue
		}
		asked[name] = true
		b, readErr := read(name)
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		out = append(out, clue{source: "the IPNS name " + name, log: b})
		todo = append(todo, namesIn(ctx, b)...)
	}
	return out, err
}

// namesIn is the IPNS name that a log's DID has now, if the log holds.
func namesIn(ctx context.Context, log []byte) []string {
	if log == nil {
		return nil
	}
	l, err := auth.ReadLog(ctx, log)
	if err != nil {
		return nil
	}
	if name, ok := auth.NameOf(l.Last().ID.String()); ok {
		return []string{name}
	}
	return nil
}

// readName reads the log under a name: again and again while a node that has just started
// still meets others, else once more.
func readName(ctx context.Context, names *ipfs.Names, name string, started bool) ([]byte, error) {
	for try := 1; ; try++ {
		b, err := names.Read(ctx, name, ".well-known/did.jsonl", webvh.MaxLog)
		if err == nil {
			return b, nil
		}
		if !started && try == 2 {
			return nil, fmt.Errorf("IPNS name %s: %w", name, err)
		}
		select {
		case <-time.After(publishTry):
		case <-ctx.Done():
			return nil, fmt.Errorf("IPNS name %s: %w", name, err)
		}
	}
}
