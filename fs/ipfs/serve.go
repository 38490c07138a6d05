package ipfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/corehttp"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// socketPathMax is what sun_path holds, without its final NUL, in bytes.
const socketPathMax = 107

// shutdownWait bounds how long requests may go on when the node is closed.
const shutdownWait = 5 * time.Second

// server gives out a node's RPC on a unix socket that only its owner can open.
type server struct {
	http http.Server
	path string
	done chan struct{} // closed when the accept loop has ended
}

func serve(n *core.IpfsNode, repoDir, path string, log *slog.Logger) (*server, error) {
	lis, err := listenPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("socket %s of the IPFS node: %w", path, err)
	}
	env := oldcmds.Context{
		ConfigRoot:    repoDir,
		ReqLog:        &oldcmds.ReqLog{},
		ConstructNode: func() (*core.IpfsNode, error) { return n, nil },
	}
	if _, err := env.GetNode(); err != nil { // once, so that requests do not race for it
		return nil, errors.Join(err, lis.Close(), os.Remove(path))
	}
	handler, err := corehttp.MakeHandler(n, lis, corehttp.CommandsOption(env))
	if err != nil {
		return nil, errors.Join(err, lis.Close(), os.Remove(path))
	}
	s := &server{path: path, done: make(chan struct{})}
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

// listenPrivate listens on a unix socket of mode 0600, in place of a socket that a killed
// process left there.
func listenPrivate(path string) (net.Listener, error) {
	if len(path) > socketPathMax {
		return nil, fmt.Errorf("the path of the socket is longer than the system allows (%d bytes)", socketPathMax)
	}
	return safefile.Listen(path)
}

func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownWait)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-s.done
	return errors.Join(err, os.Remove(s.path))
}
