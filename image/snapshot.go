package image

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	blobs "github.com/containerd/containerd/api/services/content/v1"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
)

// snapshotter is the one whose directories are known here, and containerd's default.
const snapshotter = "overlayfs"

// viewLife is how long a view stays when this process ends before it is removed.
const viewLife = 10 * time.Minute

// unpacked makes the layers of an image readable when containerd has thrown away how they were packed, as clusters let
// it do to save space (discard_unpacked_layers): their files are still there.
func (c *containerd) unpacked(ctx context.Context, i *Image) error {
	missing := ""
	for _, layer := range i.Layers {
		if !c.has(ctx, layer.Digest) {
			missing = layer.Digest
		}
	}
	if missing == "" {
		return nil
	}
	dirs, err := c.snapshotDirs(ctx, i.diffIDs())
	if err != nil {
		return fmt.Errorf("containerd has not kept layer %s, and its files cannot be had: %w", missing, err)
	}
	i.fromTrees(c.opt, dirs)
	return nil
}

// fromTrees takes the layers' files from directories of overlayfs.
func (i *Image) fromTrees(opt Options, dirs []string) {
	for n, dir := range dirs {
		t := &tree{dir: dir, diffID: i.Layers[n].DiffID, overlay: true, prune: none, opt: opt, skip: i.skip}
		i.Layers[n].walk = t.walk
	}
}

// has asks containerd, not its directory: what is thrown away stays there for some time.
func (c *containerd) has(ctx context.Context, digest string) bool {
	ctx, cancel := c.call(ctx)
	defer cancel()
	_, err := blobs.NewContentClient(c.conn).Info(ctx, &blobs.InfoRequest{Digest: digest})
	return err == nil
}

// snapshotDirs are the directories of an image's layers, from the lowest. To learn them a view is made and removed at
// once: the directories are those of the image, and stay.
func (c *containerd) snapshotDirs(ctx context.Context, diffIDs []string) ([]string, error) {
	ctx, cancel := c.call(ctx)
	defer cancel()
	client := snapshots.NewSnapshotsClient(c.conn)
	key := "bulkhead-" + rand.Text()
	answer, err := client.View(ctx, &snapshots.ViewSnapshotRequest{
		Snapshotter: snapshotter, Key: key, Parent: chainID(diffIDs),
		Labels: map[string]string{"containerd.io/gc.expire": time.Now().Add(viewLife).Format(time.RFC3339)},
	})
	if err != nil {
		return nil, told(err)
	}
	if _, err := client.Remove(ctx, &snapshots.RemoveSnapshotRequest{Snapshotter: snapshotter, Key: key}); err != nil {
		return nil, fmt.Errorf("remove the view %s: %w", key, err)
	}
	dirs := viewDirs(answer.GetMounts())
	switch {
	case len(dirs) != len(diffIDs):
		return nil, fmt.Errorf("the snapshot has %d directories for %d layers", len(dirs), len(diffIDs))
	case !readable(dirs):
		return nil, errors.New("the snapshot's directories cannot be read: run this as root, on the same host")
	}
	return dirs, nil
}

// viewDirs are the directories that a view would be mounted from: one of a single layer is a bind mount.
func viewDirs(mounts []*types.Mount) []string {
	for _, m := range mounts {
		switch m.GetType() {
		case "overlay":
			return overlayOptions(m.GetOptions()).lower
		case "bind":
			return []string{m.GetSource()}
		}
	}
	return nil
}

// chainID is the name of a stack of layers, as the OCI image specification makes it.
func chainID(diffIDs []string) string {
	chain := ""
	for _, id := range diffIDs {
		if chain == "" {
			chain = id
			continue
		}
		sum := sha256.Sum256([]byte(chain + " " + id))
		chain = "sha256:" + hex.EncodeToString(sum[:])
	}
	return chain
}
