package aws

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

func checkSnapshot(id providers.SnapshotID) error {
	if !name.MatchString(string(id)) {
		return providers.Errorf(providers.CodeInvalid, "snapshot %q is no snapshot's id", id)
	}
	return nil
}

// snapshotted is one of ours; nil where there is none.
func (s *site) snapshotted(ctx context.Context, id providers.SnapshotID) (*types.Snapshot, error) {
	out, err := s.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{having(tagSnapshot, string(id))}})
	if err != nil {
		return nil, refusal.From("asking for the snapshot", err, refusal.Repeatable)
	}
	if len(out.Snapshots) == 0 {
		return nil, nil
	}
	return &out.Snapshots[0], nil
}

func snapshotOf(id providers.SnapshotID, shot types.Snapshot) providers.Snapshot {
	return providers.Snapshot{
		ID: id, Machine: owner(shot.Tags), Bytes: int64(aws.ToInt32(shot.VolumeSize)) * gib,
		CreatedAt: aws.ToTime(shot.StartTime).UTC(), Complete: shot.State == types.SnapshotStateCompleted,
	}
}

// Snapshot copies the data volume; EC2 goes on copying after it has answered.
func (p *Provider) Snapshot(ctx context.Context, machine providers.MachineID, id providers.SnapshotID) (providers.Snapshot, error) {
	if err := checkSnapshot(id); err != nil {
		return providers.Snapshot{}, err
	}
	s, release, err := p.enter(machine)
	if err != nil {
		return providers.Snapshot{}, err
	}
	defer release()
	there, err := s.snapshotted(ctx, id)
	if err != nil {
		return providers.Snapshot{}, err
	}
	if there != nil {
		if owner(there.Tags) != machine {
			return providers.Snapshot{}, providers.Errorf(providers.CodeConflict, "snapshot %s is of another machine", id)
		}
		return snapshotOf(id, *there), nil
	}
	f, err := p.find(ctx, s, machine)
	if err != nil {
		return providers.Snapshot{}, err
	}
	disk := f.disk()
	if disk == nil {
		return providers.Snapshot{}, providers.Errorf(providers.CodeAborted, "machine %s has no data volume", machine)
	}
	t := tags{
		tagInstallation: f.wanted()[tagInstallation], tagMachine: string(machine), tagSnapshot: string(id),
		tagDataBytes: f.wanted()[tagDataBytes], tagName: "shed-" + string(machine),
	}
	made, err := s.ec2.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{
		VolumeId: disk.VolumeId, Description: aws.String("data of Shed's machine " + string(machine)), TagSpecifications: t.on(types.ResourceTypeSnapshot),
	})
	if err != nil {
		return providers.Snapshot{}, refusal.From("making the snapshot", err, refusal.Makes)
	}
	return snapshotOf(id, types.Snapshot{
		Tags: t.list(), VolumeSize: made.VolumeSize, StartTime: made.StartTime, State: made.State,
	}), nil
}

// DeleteSnapshot removes one.
func (p *Provider) DeleteSnapshot(ctx context.Context, id providers.SnapshotID) error {
	if err := checkSnapshot(id); err != nil {
		return err
	}
	s, err := p.ready()
	if err != nil {
		return err
	}
	there, err := s.snapshotted(ctx, id)
	if err != nil || there == nil {
		return err
	}
	_, err = s.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: there.SnapshotId})
	if refusal.Is(err, "InvalidSnapshot.NotFound") {
		return nil
	}
	return refusal.From("deleting the snapshot", err, refusal.Repeatable)
}

// Restore puts a new volume, made from the snapshot, in the data volume's place.
// Whatever it comes to a halt at, the same again goes on from there: the old one
// is deleted last.
func (p *Provider) Restore(ctx context.Context, machine providers.MachineID, id providers.SnapshotID) error {
	if err := checkSnapshot(id); err != nil {
		return err
	}
	s, release, err := p.enter(machine)
	if err != nil {
		return err
	}
	defer release()
	f, err := p.find(ctx, s, machine)
	if err != nil {
		return err
	}
	shot, err := s.snapshotted(ctx, id)
	switch {
	case err != nil:
		return err
	case shot == nil:
		return providers.Errorf(providers.CodeNotFound, "snapshot %s is not here", id)
	case owner(shot.Tags) != machine:
		return providers.Errorf(providers.CodeConflict, "snapshot %s is of another machine", id)
	case shot.State != types.SnapshotStateCompleted:
		return providers.Errorf(providers.CodeConflict, "snapshot %s is not complete", id)
	case f.instances[0].State.Name != types.InstanceStateNameStopped:
		return providers.Errorf(providers.CodeConflict, "machine %s is not off", machine)
	}
	return s.restore(ctx, f, id, shot)
}

func (s *site) restore(ctx context.Context, f *found, id providers.SnapshotID, shot *types.Snapshot) error {
	fresh, err := s.restored(ctx, f, id, shot)
	if err != nil {
		return err
	}
	old := f.disk()
	if old != nil {
		if err := s.tag(ctx, tags{tagRole: roleOld}, aws.ToString(old.VolumeId)); err != nil {
			return err
		}
	}
	for _, v := range f.data() {
		if aws.ToString(v.VolumeId) != fresh {
			if err := s.detach(ctx, v); err != nil {
				return err
			}
		}
	}
	if err := s.attachVolume(ctx, f, fresh); err != nil {
		return err
	}
	if err := s.untag(ctx, fresh, tagRole, tagSnapshot); err != nil {
		return err
	}
	for _, v := range f.data() {
		if aws.ToString(v.VolumeId) != fresh {
			if err := s.deleteVolume(ctx, aws.ToString(v.VolumeId)); err != nil {
				return err
			}
		}
	}
	return nil
}

// restored is the volume made from the snapshot: one that was begun, or a new
// one, as large as the disk has become since.
func (s *site) restored(ctx context.Context, f *found, id providers.SnapshotID, shot *types.Snapshot) (string, error) {
	size := aws.ToInt32(shot.VolumeSize)
	for _, v := range f.data() {
		t := tagsOf(v.Tags)
		if t[tagRole] == roleNew && t[tagSnapshot] == string(id) {
			return aws.ToString(v.VolumeId), nil
		}
		size = max(size, aws.ToInt32(v.Size))
	}
	t := f.wanted()
	t[tagRole], t[tagSnapshot] = roleNew, string(id)
	out, err := s.ec2.CreateVolume(ctx, &ec2.CreateVolumeInput{
		AvailabilityZone: f.instances[0].Placement.AvailabilityZone, SnapshotId: shot.SnapshotId, Size: aws.Int32(size),
		VolumeType: types.VolumeTypeGp3, Encrypted: aws.Bool(true), KmsKeyId: optional(s.settings.KMSKey),
		TagSpecifications: t.on(types.ResourceTypeVolume),
	})
	if err != nil {
		return "", refusal.From("making a volume of the snapshot", err, refusal.Makes)
	}
	return aws.ToString(out.VolumeId), nil
}
