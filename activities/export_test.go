package activities

// StepLabelsForTest is stepLabels.
var StepLabelsForTest = stepLabels
