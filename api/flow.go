package api

import (
	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
)

// ToFlow writes a flow as a message.
func ToFlow(f bulkhead.Flow) *pb.Flow {
	return &pb.Flow{
		Cluster: Text(f.Cluster), Source: toEndpoint(f.Source), Destination: toEndpoint(f.Destination), Protocol: Text(f.Protocol), Port: uint32(f.Port),
		Application: Text(f.Application), First: toTime(f.First), Last: toTime(f.Last),
		Opened: f.Opened, Established: f.Established, Refused: f.Refused, Reset_: f.Reset, Denied: f.Denied, WouldDeny: f.WouldDeny, Resent: f.Resent,
		BytesOut: f.BytesOut, BytesIn: f.BytesIn, PacketsOut: f.PacketsOut, PacketsIn: f.PacketsIn, RttSumMicroseconds: f.RTT, RttCount: f.RTTs,
	}
}

// FromFlow reads a flow from a message.
func FromFlow(m *pb.Flow) bulkhead.Flow {
	return bulkhead.Flow{
		Edge: bulkhead.Edge{
			Cluster: Text(m.GetCluster()), Source: fromEndpoint(m.GetSource()), Destination: fromEndpoint(m.GetDestination()),
			Protocol: Text(m.GetProtocol()), Port: uint16(m.GetPort()),
		},
		Application: Text(m.GetApplication()),
		Traffic: bulkhead.Traffic{
			First: fromTime(m.GetFirst()), Last: fromTime(m.GetLast()),
			Opened: m.GetOpened(), Established: m.GetEstablished(), Refused: m.GetRefused(), Reset: m.GetReset_(), Denied: m.GetDenied(), WouldDeny: m.GetWouldDeny(), Resent: m.GetResent(),
			BytesOut: m.GetBytesOut(), BytesIn: m.GetBytesIn(), PacketsOut: m.GetPacketsOut(), PacketsIn: m.GetPacketsIn(),
			RTT: m.GetRttSumMicroseconds(), RTTs: m.GetRttCount(),
		},
	}
}

func toEndpoint(e bulkhead.Endpoint) *pb.Endpoint {
	return &pb.Endpoint{Kind: Text(string(e.Kind)), Name: Text(e.Name)}
}

func fromEndpoint(m *pb.Endpoint) bulkhead.Endpoint {
	return bulkhead.Endpoint{Kind: bulkhead.EndpointKind(Text(m.GetKind())), Name: Text(m.GetName())}
}
