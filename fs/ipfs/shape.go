package ipfs

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
)

// SizeClass is how many blocks are larger than half of Size and not larger than Size.
type SizeClass struct{ Size, Count int64 }

// sampleDirs is how many of the directories of blocks are read for an estimate.
const sampleDirs = 16

// Sizes estimates how many blocks of which size lie in the repo, from some of its
// directories: blocks are spread over them by hash. It is what anybody sees who sees the
// repo, and costs the same however large that is.
func (e *Embedded) Sizes(ctx context.Context) ([]SizeClass, error) {
	return do(ctx, &e.gate, e.conf.GetTimeout, func(ctx context.Context) ([]SizeClass, error) {
		base := filepath.Join(e.conf.RepoDir, blocksDir)
		all, err := os.ReadDir(base)
		if err != nil {
			return nil, err
		}
		var dirs []string
		for _, d := range all {
			if d.IsDir() {
				dirs = append(dirs, d.Name())
			}
		}
		total := len(dirs)
		if total > sampleDirs {
			rand.Shuffle(total, func(i, j int) { dirs[i], dirs[j] = dirs[j], dirs[i] })
			dirs = dirs[:sampleDirs]
		}
		count := map[int64]int64{}
		for _, d := range dirs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			files, err := os.ReadDir(filepath.Join(base, d))
			if err != nil {
				return nil, err
			}
			for _, f := range files {
				if info, err := f.Info(); err == nil { // else it was freed meanwhile
					count[int64(1)<<bits.Len64(uint64(max(info.Size(), 1)-1))]++
				}
			}
		}
		out := make([]SizeClass, 0, len(count))
		for size, n := range count {
			out = append(out, SizeClass{size, n * int64(total) / int64(len(dirs))})
		}
		sort.Slice(out, func(i, j int) bool { return out[i].Size < out[j].Size })
		return out, nil
	})
}
