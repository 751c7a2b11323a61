package aws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/disk"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

const (
	rootDevice = "/dev/xvda"
	// checkpoint is after how many blocks it is written down how far a disk was
	// put: 128 MiB of what is not zeros.
	checkpoint = 256
	// uploadMinutes is how long a snapshot may be written to.
	uploadMinutes = 240
	// readyTick is how often it is asked whether a snapshot is complete.
	readyTick = time.Second
)

// EnsureImage puts a release's disk into a snapshot, and registers an image of
// it. Both carry the release and the disk's digest; they are the account's, and
// no installation's.
func (p *Provider) EnsureImage(ctx context.Context, image providers.Image, progress func(done, total int64)) error {
	s, err := p.ready()
	if err != nil {
		return err
	}
	if err := sdk.OnlyAMD64(image); err != nil {
		return err
	}
	if image.Firmware != nil {
		e := providers.Errorf(providers.CodeInvalid, "image: the release brings its own firmware, and EC2 starts machines with EC2's")
		e.Hint = "build the release without firmware"
		return e
	}
	release, err := p.claim("release " + image.Release.String())
	if err != nil {
		return err
	}
	defer release()
	if progress == nil {
		progress = func(int64, int64) {}
	}
	if err := s.ensureImage(ctx, image, progress); err != nil {
		return err
	}
	progress(image.Bytes, image.Bytes)
	return nil
}

func (s *site) ensureImage(ctx context.Context, image providers.Image, progress func(done, total int64)) error {
	there, err := s.findImage(ctx, image.Release)
	switch {
	case err != nil:
		return err
	case there == nil:
		return s.upload(ctx, image, progress)
	case tagsOf(there.Tags)[tagImage] != image.SHA256.String():
		return providers.Errorf(providers.CodeConflict, "release %s has another image here: %s", image.Release, aws.ToString(there.ImageId))
	}
	return nil
}

// findImage is a release's image; nil where there is none.
func (s *site) findImage(ctx context.Context, release attest.ReleaseDigest) (*types.Image, error) {
	out, err := s.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: []types.Filter{having(tagRelease, release.String())}})
	if err != nil {
		return nil, refusal.From("asking for the image", err, refusal.Repeatable)
	}
	for i := range out.Images {
		if out.Images[i].State == types.ImageStateAvailable || out.Images[i].State == types.ImageStatePending {
			return &out.Images[i], nil
		}
	}
	return nil, nil
}

// image is one that machines can be made from.
func (s *site) image(ctx context.Context, release attest.ReleaseDigest) (*types.Image, error) {
	i, err := s.findImage(ctx, release)
	switch {
	case err != nil:
		return nil, err
	case i == nil:
		return nil, providers.Errorf(providers.CodeInvalid, "the image of release %s is not here", release)
	case i.State != types.ImageStateAvailable:
		return nil, providers.Errorf(providers.CodeAborted, "the image of release %s is being made", release)
	}
	return i, nil
}

// upload checks the file, puts it and registers it. EC2 is asked what it has of
// it while the file is read: both take their time.
func (s *site) upload(ctx context.Context, image providers.Image, progress func(done, total int64)) error {
	f, err := os.Open(image.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return providers.Errorf(providers.CodeInvalid, "image: %s", err)
	}
	if err != nil {
		return providers.Errorf(providers.CodeInternal, "opening the image: %s", err)
	}
	defer f.Close()
	variables, err := uefiData(image)
	if err != nil {
		return err
	}
	var plan disk.Plan
	var into snapshot
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		plan, err = scan(bothCtx, f, image)
		return err
	})
	both.Go(func() (err error) {
		into, err = s.begun(bothCtx, image)
		return err
	})
	if err := both.Wait(); err != nil {
		return err
	}
	if into.id == "" {
		if into.id, err = s.begin(ctx, image, into.failed); err != nil {
			return err
		}
	}
	if !into.complete {
		if err := s.put(ctx, image, into, plan, f, progress); err != nil {
			return err
		}
	}
	return s.register(ctx, image, into.id, variables)
}

// scan reads a disk that has to be the one that was announced.
func scan(ctx context.Context, r io.Reader, image providers.Image) (disk.Plan, error) {
	// One byte more than announced is enough to know that it is another.
	plan, err := disk.Scan(ctx, io.LimitReader(r, image.Bytes+1))
	if err != nil {
		return plan, refusal.From("reading the image", err, refusal.Repeatable)
	}
	if plan.Bytes != image.Bytes || plan.Sum != image.SHA256 {
		return plan, providers.Errorf(providers.CodeInvalid, "image is not the one that was announced")
	}
	return plan, nil
}

// snapshot is one that a disk is put into. Without an id it is still to be
// begun.
type snapshot struct {
	id       string
	complete bool
	// first is the first block that may not have been put.
	first int
	// failed are the snapshots of the same disk that came to nothing.
	failed []string
}

// begun is the snapshot of a disk that was begun before.
func (s *site) begun(ctx context.Context, image providers.Image) (snapshot, error) {
	out, err := s.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{
		OwnerIds: []string{"self"}, Filters: []types.Filter{having(tagRelease, image.Release.String()), having(tagImage, image.SHA256.String())},
	})
	if err != nil {
		return snapshot{}, refusal.From("asking for the snapshot", err, refusal.Repeatable)
	}
	var failed []string
	for _, shot := range out.Snapshots {
		switch shot.State {
		case types.SnapshotStatePending, types.SnapshotStateCompleted:
			// What is not a number is the beginning.
			first, _ := strconv.Atoi(tagsOf(shot.Tags)[tagBlocks])
			return snapshot{id: aws.ToString(shot.SnapshotId), complete: shot.State == types.SnapshotStateCompleted, first: first}, nil
		}
		failed = append(failed, aws.ToString(shot.SnapshotId))
	}
	return snapshot{failed: failed}, nil
}

// begin makes a snapshot. Its token tells it from those that failed.
func (s *site) begin(ctx context.Context, image providers.Image, failed []string) (id string, err error) {
	token := append([]string{image.Release.String(), image.SHA256.String()}, failed...)
	sum := sha256.Sum256([]byte(strings.Join(token, "\n")))
	t := tags{tagRelease: image.Release.String(), tagImage: image.SHA256.String(), tagName: imageName(image.Release)}
	made, err := s.ebs.StartSnapshot(ctx, &ebs.StartSnapshotInput{
		VolumeSize: aws.Int64(int64(gibOf(image.Bytes))), ClientToken: aws.String(hex.EncodeToString(sum[:])),
		Description: aws.String(imageName(image.Release)), Timeout: aws.Int32(uploadMinutes), Tags: t.ebs(),
	})
	if err != nil {
		return "", refusal.From("starting the snapshot", err, refusal.Repeatable)
	}
	return aws.ToString(made.SnapshotId), nil
}

func imageName(release attest.ReleaseDigest) string { return "shed-" + release.String() }

func (t tags) ebs() []ebstypes.Tag {
	var out []ebstypes.Tag
	for _, key := range sortedKeys(t) {
		out = append(out, ebstypes.Tag{Key: aws.String(key), Value: aws.String(t[key])})
	}
	return out
}

// put makes a snapshot complete.
func (s *site) put(ctx context.Context, image providers.Image, into snapshot, plan disk.Plan, f io.ReaderAt, progress func(done, total int64)) error {
	if into.first < 0 || into.first > len(plan.Blocks) {
		into.first = 0
	}
	err := plan.Put(ctx, f, into.first, func(ctx context.Context, b disk.Block, data []byte) error {
		return s.putBlock(ctx, into.id, b, data)
	}, func(first int) error {
		if first == len(plan.Blocks) {
			return nil
		}
		progress(int64(plan.Blocks[first].Index)*disk.BlockBytes, image.Bytes)
		if first%checkpoint != 0 {
			return nil
		}
		return s.tag(ctx, tags{tagBlocks: strconv.Itoa(first)}, into.id)
	})
	if errors.Is(err, disk.ErrChanged) {
		return providers.Errorf(providers.CodeInvalid, "image: %s", err)
	}
	if err != nil {
		return refusal.From("putting the image", err, refusal.Repeatable)
	}
	return s.complete(ctx, into.id, plan)
}

// complete has EC2 take a snapshot for whole.
func (s *site) complete(ctx context.Context, id string, plan disk.Plan) error {
	sum := plan.Checksum()
	_, err := s.ebs.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
		SnapshotId: aws.String(id), ChangedBlocksCount: aws.Int32(int32(len(plan.Blocks))), //nolint:gosec // at most maxData of them
		Checksum:          aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256, ChecksumAggregationMethod: ebstypes.ChecksumAggregationMethodChecksumAggregationLinear,
	})
	// One that was told to complete before takes it no second time.
	if err != nil && !refusal.Is(err, "ConflictException") {
		return refusal.From("completing the snapshot", err, refusal.Repeatable)
	}
	return s.completed(ctx, id)
}

func (s *site) putBlock(ctx context.Context, id string, b disk.Block, data []byte) error {
	_, err := s.ebs.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
		SnapshotId: aws.String(id), BlockIndex: aws.Int32(b.Index), BlockData: bytes.NewReader(data), DataLength: aws.Int32(disk.BlockBytes),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(b.Sum[:])), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
	})
	return refusal.From("putting block "+strconv.Itoa(int(b.Index)), err, refusal.Repeatable)
}

// completed waits until EC2 has a snapshot.
func (s *site) completed(ctx context.Context, id string) error {
	tick := time.NewTicker(readyTick)
	defer tick.Stop()
	for {
		out, err := s.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
		if err != nil {
			return refusal.From("waiting for the snapshot", err, refusal.Repeatable)
		}
		if len(out.Snapshots) == 1 {
			switch shot := out.Snapshots[0]; shot.State {
			case types.SnapshotStateCompleted:
				return nil
			case types.SnapshotStateError:
				return providers.Errorf(providers.CodeInternal, "snapshot %s failed: %s", id, aws.ToString(shot.StateMessage))
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return refusal.From("waiting for the snapshot", ctx.Err(), refusal.Repeatable)
		}
	}
}

// register makes the image: UEFI and a TPM 2.0, without which nothing of a
// machine could be attested, and Secure Boot where variables turn it on.
func (s *site) register(ctx context.Context, image providers.Image, shot string, variables *string) error {
	t := tags{tagRelease: image.Release.String(), tagImage: image.SHA256.String(), tagName: imageName(image.Release)}
	_, err := s.ec2.RegisterImage(ctx, &ec2.RegisterImageInput{
		Name: aws.String(imageName(image.Release)), Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"),
		BootMode: types.BootModeValuesUefi, TpmSupport: types.TpmSupportValuesV20, EnaSupport: aws.Bool(true), ImdsSupport: types.ImdsSupportValuesV20,
		RootDeviceName: aws.String(rootDevice), UefiData: variables,
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String(rootDevice), Ebs: &types.EbsBlockDevice{
			SnapshotId: aws.String(shot), DeleteOnTermination: aws.Bool(true), VolumeType: types.VolumeTypeGp3,
		}}},
		TagSpecifications: t.on(types.ResourceTypeImage),
	})
	if refusal.Is(err, "InvalidAMIName.Duplicate") {
		return providers.Errorf(providers.CodeAborted, "the image of release %s is being registered", image.Release)
	}
	return refusal.From("registering the image", err, refusal.Makes)
}
