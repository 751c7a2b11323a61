package aws

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// Get answers one machine.
func (p *Provider) Get(ctx context.Context, id providers.MachineID) (providers.Machine, error) {
	if err := checkMachine(id); err != nil {
		return providers.Machine{}, err
	}
	s, err := p.ready()
	if err != nil {
		return providers.Machine{}, err
	}
	f, err := p.find(ctx, s, id)
	if err != nil {
		return providers.Machine{}, err
	}
	return s.observe(f), nil
}

// find is look for a machine that must be there. Errors are CodeNotFound, and
// CodeUnavailable for one that was made and that EC2 does not show yet.
func (p *Provider) find(ctx context.Context, s *site, id providers.MachineID) (*found, error) {
	f, err := s.look(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(f.instances) > 0 {
		p.seen(id)
		return f, nil
	}
	if len(f.dead) == 0 && p.unseen(id) {
		return nil, providers.Errorf(providers.CodeUnavailable, "machine %s was made and is not to be seen yet", id)
	}
	return nil, notFound(id)
}

// kinds are what List asks for one after the other. A page is a kind, and EC2's
// own token of where to go on.
var kinds = []string{"instances", "volumes", "nics", "addresses", "snapshots"}

// List answers what carries the installation's tag. The security group is not
// among it: it costs nothing, and goes with the last machine.
func (p *Provider) List(ctx context.Context, installation providers.InstallationID, page string) (providers.Page, error) {
	if !name.MatchString(string(installation)) {
		return providers.Page{}, providers.Errorf(providers.CodeInvalid, "installation %q is no installation's id", installation)
	}
	s, err := p.ready()
	if err != nil {
		return providers.Page{}, err
	}
	kind, token, _ := strings.Cut(page, ":")
	if page == "" {
		kind = kinds[0]
	}
	for i, k := range kinds {
		if k != kind {
			continue
		}
		out, next, err := s.list(ctx, k, installation, token)
		if err != nil {
			return providers.Page{}, err
		}
		switch {
		case next != "":
			return providers.Page{Resources: out, Next: k + ":" + next}, nil
		case i+1 < len(kinds):
			return providers.Page{Resources: out, Next: kinds[i+1] + ":"}, nil
		}
		return providers.Page{Resources: out}, nil
	}
	return providers.Page{}, providers.Errorf(providers.CodeInvalid, "page %q is none that was answered", page)
}

func (s *site) list(ctx context.Context, kind string, i providers.InstallationID, token string) (out []providers.Resource, next string, err error) {
	by, from, most := []types.Filter{having(tagInstallation, string(i))}, optional(token), aws.Int32(perPage)
	switch kind {
	case "instances":
		page, err := s.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: append(by, living()), NextToken: from, MaxResults: most})
		if err != nil {
			return nil, "", refusal.From("listing instances", err, refusal.Repeatable)
		}
		for _, r := range page.Reservations {
			for _, instance := range r.Instances {
				out = append(out, instanceResource(instance))
			}
		}
		return out, aws.ToString(page.NextToken), nil
	case "volumes":
		return s.listVolumes(ctx, by, from)
	case "nics":
		page, err := s.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: by, NextToken: from, MaxResults: most})
		if err != nil {
			return nil, "", refusal.From("listing network interfaces", err, refusal.Repeatable)
		}
		for _, n := range page.NetworkInterfaces {
			out = append(out, nicResource(n))
		}
		return out, aws.ToString(page.NextToken), nil
	case "addresses":
		all, err := s.addresses(ctx, by)
		for _, a := range all {
			out = append(out, addressResource(a))
		}
		return out, "", err
	}
	page, err := s.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{Filters: by, OwnerIds: []string{"self"}, NextToken: from, MaxResults: most})
	if err != nil {
		return nil, "", refusal.From("listing snapshots", err, refusal.Repeatable)
	}
	for _, shot := range page.Snapshots {
		out = append(out, snapshotResource(shot))
	}
	return out, aws.ToString(page.NextToken), nil
}

func (s *site) listVolumes(ctx context.Context, by []types.Filter, from *string) (out []providers.Resource, next string, err error) {
	page, err := s.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: by, NextToken: from, MaxResults: aws.Int32(perPage)})
	if err != nil {
		return nil, "", refusal.From("listing volumes", err, refusal.Repeatable)
	}
	for _, v := range page.Volumes {
		out = append(out, volumeResource(v))
	}
	return out, aws.ToString(page.NextToken), nil
}

func snapshotResource(shot types.Snapshot) providers.Resource {
	return providers.Resource{
		Kind: providers.ResourceSnapshot, ID: aws.ToString(shot.SnapshotId), Machine: owner(shot.Tags),
		Bytes: int64(aws.ToInt32(shot.VolumeSize)) * gib,
	}
}
