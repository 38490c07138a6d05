package fs

import (
	"sync"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Blobs end while others sync them: no sync may meet a closed file, none may stay open,
// and none may count as synced that was written to since.
func TestStageEndsWhileSyncing(t *testing.T) {
	s, err := openStage(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	stop := make(chan struct{})
	var syncs, writers sync.WaitGroup
	for range 2 {
		syncs.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.sync(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var mu sync.Mutex
	var blobs []*stagedBlob
	for w := range 4 {
		writers.Go(func() {
			for i := range 100 {
				b, err := s.create(stageID{byte(w), byte(i)}, crypt.Key{})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				blobs = append(blobs, b)
				mu.Unlock()
				for j := range 3 {
					if err := s.write(b, make([]byte, 100), int64(j)*100); err != nil {
						t.Error(err)
					}
				}
				s.end(b)
			}
		})
	}
	writers.Wait()
	close(stop)
	syncs.Wait()
	if err := s.sync(); err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		if b.file != nil || b.syncing {
			t.Fatalf("blob %s: open %t, syncing %t", b.id, b.file != nil, b.syncing)
		}
	}
	if len(s.dirty) != 0 {
		t.Fatalf("%d blobs are dirty after the last sync", len(s.dirty))
	}
}
