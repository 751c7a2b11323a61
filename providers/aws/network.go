package aws

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// subnet is a place in a zone.
type subnet struct{ id, vpc, zone string }

// places are the subnets in their order, asked for once.
func (s *site) places(ctx context.Context) ([]subnet, error) {
	s.mu.Lock()
	known := s.subnets
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	in := &ec2.DescribeSubnetsInput{SubnetIds: s.settings.Subnets}
	if len(s.settings.Subnets) == 0 {
		in.Filters = []types.Filter{{Name: aws.String("default-for-az"), Values: []string{"true"}}}
	}
	out, err := s.ec2.DescribeSubnets(ctx, in)
	if err != nil {
		return nil, refusal.From("asking for the subnets", err, refusal.Repeatable)
	}
	byID, byZone := map[string]subnet{}, map[string]string{}
	for _, n := range out.Subnets {
		one := subnet{aws.ToString(n.SubnetId), aws.ToString(n.VpcId), aws.ToString(n.AvailabilityZone)}
		byID[one.id], byZone[one.zone] = one, one.id
	}
	order := s.settings.Subnets
	if len(order) == 0 {
		for _, zone := range sortedKeys(byZone) {
			order = append(order, byZone[zone])
		}
	}
	var all []subnet
	for _, id := range order {
		all = append(all, byID[id])
		if byID[id].vpc != all[0].vpc {
			return nil, providers.Errorf(providers.CodeInvalid, "settings: subnets are of the VPCs %s and %s, and must be of one", all[0].vpc, byID[id].vpc)
		}
	}
	if len(all) == 0 {
		e := providers.Errorf(providers.CodeInvalid, "region %s has no default subnets", s.settings.Region).In(providers.ScopeRegion)
		e.Hint = "name subnets in the settings"
		return nil, e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subnets = all
	return all, nil
}

// groupName is what an installation's security group is called: a VPC has one
// of a name.
func groupName(i providers.InstallationID) string { return "shed-" + string(i) }

// group is the installation's security group, which opens port 443 alone. It
// costs nothing and is no machine's: it goes with the installation's last one.
func (s *site) group(ctx context.Context, i providers.InstallationID, vpc string) (string, error) {
	s.grouping.Lock()
	defer s.grouping.Unlock()
	s.mu.Lock()
	known := s.groups[i]
	s.mu.Unlock()
	if known != "" {
		return known, nil
	}
	id, err := s.findGroup(ctx, i, vpc)
	if err != nil {
		return "", err
	}
	if id == "" {
		if id, err = s.makeGroup(ctx, i, vpc); err != nil {
			return "", err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups[i] = id
	return id, nil
}

func (s *site) forgetGroup(i providers.InstallationID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.groups, i)
}

// findGroup answers the group that is there and open, and opens one that was
// left half made; empty where there is none.
func (s *site) findGroup(ctx context.Context, i providers.InstallationID, vpc string) (string, error) {
	out, err := s.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
		{Name: aws.String("group-name"), Values: []string{groupName(i)}}, {Name: aws.String("vpc-id"), Values: []string{vpc}},
	}})
	if err != nil {
		return "", refusal.From("asking for the security group", err, refusal.Repeatable)
	}
	if len(out.SecurityGroups) == 0 {
		return "", nil
	}
	g := out.SecurityGroups[0]
	if tagsOf(g.Tags)[tagInstallation] != string(i) {
		return "", providers.Errorf(providers.CodeConflict, "security group %s has the name of this installation's, and not its tag", aws.ToString(g.GroupId))
	}
	return aws.ToString(g.GroupId), s.openGroup(ctx, aws.ToString(g.GroupId), len(g.IpPermissions) > 0)
}

func (s *site) makeGroup(ctx context.Context, i providers.InstallationID, vpc string) (string, error) {
	out, err := s.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: aws.String(groupName(i)), Description: aws.String("port 443 of Shed's machines"), VpcId: aws.String(vpc),
		TagSpecifications: tags{tagInstallation: string(i), tagName: groupName(i)}.on(types.ResourceTypeSecurityGroup),
	})
	if refusal.Is(err, "InvalidGroup.Duplicate") {
		return "", providers.Errorf(providers.CodeAborted, "the security group of the installation is being made")
	}
	if err != nil {
		return "", refusal.From("making the security group", err, refusal.Makes)
	}
	id := aws.ToString(out.GroupId)
	return id, s.openGroup(ctx, id, false)
}

func (s *site) openGroup(ctx context.Context, id string, isOpen bool) error {
	if isOpen {
		return nil
	}
	_, err := s.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: aws.String(id),
		IpPermissions: []types.IpPermission{{
			IpProtocol: aws.String("tcp"), FromPort: aws.Int32(443), ToPort: aws.Int32(443),
			IpRanges:   []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}},
			Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: aws.String("::/0")}},
		}},
	})
	if refusal.Is(err, "InvalidPermission.Duplicate") {
		return nil
	}
	return refusal.From("opening port 443", err, refusal.Repeatable)
}

// lastOut removes the installation's security group once none of its machines
// is there.
func (s *site) lastOut(ctx context.Context, i providers.InstallationID) error {
	if i == "" {
		return nil
	}
	left, err := s.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{having(tagInstallation, string(i)), living()}})
	if err != nil {
		return refusal.From("asking for the installation's other machines", err, refusal.Repeatable)
	}
	if len(left.Reservations) > 0 {
		return nil
	}
	places, err := s.places(ctx)
	if err != nil {
		return err
	}
	id, err := s.findGroup(ctx, i, places[0].vpc)
	if err != nil || id == "" {
		return err
	}
	s.forgetGroup(i)
	_, err = s.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: aws.String(id)})
	if refusal.Is(err, "InvalidGroup.NotFound", "DependencyViolation") {
		return nil
	}
	return refusal.From("deleting the security group", err, refusal.Repeatable)
}

// living is a filter for instances that have not ended.
func living() types.Filter {
	return types.Filter{Name: aws.String("instance-state-name"), Values: []string{"pending", "running", "shutting-down", "stopping", "stopped"}}
}
