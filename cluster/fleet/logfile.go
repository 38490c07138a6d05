package fleet

import (
	"errors"
	"os"
	"sync"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// logLimit bounds a child's log; with the one before, it takes twice this.
const logLimit = 4 << 20

// logFile is a file that children write to, which never grows beyond a limit. What was
// there before is kept once, as PATH.1.
type logFile struct {
	path  string
	limit int64

	mu   sync.Mutex
	f    *os.File
	size int64
}

func openLog(path string, limit int64) (*logFile, error) {
	l := &logFile{path: path, limit: limit}
	return l, l.open()
}

func (l *logFile) open() error {
	f, err := safefile.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size = f, info.Size()
	return nil
}

// Write never fails: a child must not stall or die because its log cannot be written.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil && l.size > 0 && l.size+int64(len(b)) > l.limit {
		_ = l.f.Close() // nothing more can be done for the old log
		l.f = nil
		_ = os.Rename(l.path, l.path+".1")
		_ = l.open()
	}
	if l.f != nil {
		n, _ := l.f.Write(b)
		l.size += int64(n)
	}
	return len(b), nil
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}
