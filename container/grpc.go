package container

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	// maxMessage bounds one answer. CRI lists everything in one, with a few KiB for each container.
	maxMessage = 8 << 20
	// grpcBuffer is what a connection reads and writes at once: events are small, and memory matters.
	grpcBuffer = 8 << 10
)

// dialGRPC makes a connection to a unix socket. It connects with the first call.
func dialGRPC(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a unix socket, guarded by its mode
		grpc.WithAuthority("localhost"), grpc.WithDisableServiceConfig(), grpc.WithMaxHeaderListSize(64<<10),
		grpc.WithReadBufferSize(grpcBuffer), grpc.WithWriteBufferSize(grpcBuffer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
}

func notFound(err error) bool { return status.Code(err) == codes.NotFound }

func unimplemented(err error) bool { return status.Code(err) == codes.Unimplemented }
