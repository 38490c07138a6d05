package ipfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/corehttp"

	"github.com/cluster-labs/ipfscloud/auth/peercred"
)

// socketPathMax is what sun_path holds, without its final NUL, in bytes.
const socketPathMax = 107

// shutdownWait bounds how long requests may go on when the node is closed.
const shutdownWait = 5 * time.Second

// server gives out a node's RPC on a unix socket that answers its owner and root alone.
type server struct {
	http http.Server
	done chan struct{} // closed when the accept loop has ended
}

func serve(n *core.IpfsNode, repoDir, path string, log *slog.Logger) (*server, error) {
	if len(path) > socketPathMax { // no client could connect
		return nil, fmt.Errorf("the path of the socket of the IPFS node, %s, is longer than the system allows (%d bytes)", path, socketPathMax)
	}
	lis, err := peercred.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("socket %s of the IPFS node: %w", path, err)
	}
	env := oldcmds.Context{
		ConfigRoot:    repoDir,
		ReqLog:        &oldcmds.ReqLog{},
		ConstructNode: func() (*core.IpfsNode, error) { return n, nil },
	}
	if _, err := env.GetNode(); err != nil { // once, so that requests do not race for it
		return nil, errors.Join(err, lis.Close())
	}
	handler, err := corehttp.MakeHandler(n, lis, corehttp.CommandsOption(env))
	if err != nil {
		return nil, errors.Join(err, lis.Close())
	}
	s := &server{done: make(chan struct{})}
	s.http.Handler = withoutShutdown(handler)
	s.http.ReadHeaderTimeout = 10 * time.Second
	go func() {
		defer close(s.done)
		if err := s.http.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the RPC of the IPFS node ended", "error", err)
		}
	}()
	return s, nil
}

// withoutShutdown keeps a user of the RPC from closing the node under the mount.
func withoutShutdown(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == corehttp.APIPath+"/shutdown" {
			http.Error(w, "the node belongs to ipfscloud and ends with it", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownWait)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-s.done
	return err
}
