package auth

import (
	"fmt"

	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
)

// Role is what somebody may do; each one may do what those before it may.
type Role string

// The roles, in rising order.
const (
	Anyone   Role = "anyone" // also who is not signed in
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Admin    Role = "admin"
)

func (r Role) rank() int {
	switch r {
	case Viewer:
		return 1
	case Operator:
		return 2
	case Admin:
		return 3
	}
	return 0
}

// Needs returns the role that a method of the API needs; false when it has no rule and nobody may call it.
// To add a method: add a line.
func Needs(procedure string) (Role, bool) {
	switch procedure {
	case bulkheadv1connect.AuthServiceSignInProcedure,
		bulkheadv1connect.AuthServiceSignOutProcedure:
		return Anyone, true
	case bulkheadv1connect.AuthServiceWhoAmIProcedure,
		bulkheadv1connect.WorkloadServiceListWorkloadsProcedure,
		bulkheadv1connect.WorkloadServiceGetWorkloadProcedure,
		bulkheadv1connect.WorkloadServiceGetProfileProcedure,
		bulkheadv1connect.WorkloadServiceGetLeastProcedure,
		bulkheadv1connect.AlertServiceListAlertsProcedure,
		bulkheadv1connect.AlertServiceWatchAlertsProcedure,
		bulkheadv1connect.AlertServiceListIncidentsProcedure,
		bulkheadv1connect.DrillServiceGetDrillProcedure,
		bulkheadv1connect.NodeServiceListNodesProcedure,
		bulkheadv1connect.FlowServiceListFlowsProcedure,
		bulkheadv1connect.FlowServiceGetFlowProcedure,
		bulkheadv1connect.FlowServiceGetMapProcedure,
		bulkheadv1connect.FlowServiceListRisksProcedure,
		bulkheadv1connect.FlowServiceListRequestsProcedure,
		bulkheadv1connect.SegmentServiceProposeSegmentsProcedure,
		bulkheadv1connect.SegmentServiceReplaySegmentsProcedure,
		bulkheadv1connect.SegmentServiceListSegmentsProcedure,
		bulkheadv1connect.ImageServiceListImagesProcedure,
		bulkheadv1connect.ImageServiceGetImageProcedure,
		bulkheadv1connect.ImageServiceDiffImagesProcedure,
		bulkheadv1connect.ImageServiceListScansProcedure,
		bulkheadv1connect.ImageServiceListWatchesProcedure,
		bulkheadv1connect.ImageServiceListTrustProcedure,
		bulkheadv1connect.PolicyServiceListPoliciesProcedure,
		bulkheadv1connect.BaselineServiceListAuditsProcedure,
		bulkheadv1connect.BaselineServiceGetAuditProcedure,
		bulkheadv1connect.BaselineServiceListDriftProcedure,
		bulkheadv1connect.BaselineServiceListExceptionsProcedure,
		bulkheadv1connect.WebServiceListWebProcedure,
		bulkheadv1connect.WebServiceListWebEventsProcedure,
		bulkheadv1connect.WebServiceGetWebEventProcedure,
		bulkheadv1connect.WebServiceGetPortraitProcedure:
		return Viewer, true
	case bulkheadv1connect.WorkloadServiceSetModeProcedure,
		bulkheadv1connect.WorkloadServiceApproveProcedure,
		bulkheadv1connect.DrillServicePutDrillProcedure,
		bulkheadv1connect.SegmentServiceApplySegmentsProcedure,
		bulkheadv1connect.SegmentServiceRemoveSegmentsProcedure,
		bulkheadv1connect.SegmentServiceQuarantineProcedure,
		bulkheadv1connect.SegmentServicePutInventoryProcedure,
		bulkheadv1connect.BaselineServicePutExceptionProcedure,
		bulkheadv1connect.BaselineServiceRemoveExceptionProcedure,
		bulkheadv1connect.WebServiceSetWebProcedure,
		bulkheadv1connect.WebServiceAllowWebProcedure,
		bulkheadv1connect.WebServicePatchWebProcedure,
		bulkheadv1connect.ImageServiceScanImageProcedure,
		bulkheadv1connect.ImageServiceWatchRepositoryProcedure:
		return Operator, true
	case bulkheadv1connect.ImageServiceAddHookProcedure, // a token for a program outside
		bulkheadv1connect.ImageServiceRemoveHookProcedure,
		bulkheadv1connect.PolicyServiceApplyPoliciesProcedure, // decides what may run anywhere
		bulkheadv1connect.PolicyServiceRemovePolicyProcedure:
		return Admin, true
	}
	return "", false
}

// Allow reports why somebody may not call a method; nil when they may.
func Allow(who Identity, procedure string) error {
	needed, ok := Needs(procedure)
	if !ok {
		return fmt.Errorf("no rule says who may call %s", procedure)
	}
	if who.Role.rank() < needed.rank() {
		return fmt.Errorf("%s has the role %s; this needs the role %s: ask an admin", who.Name, who.Role, needed)
	}
	return nil
}
