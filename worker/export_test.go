package worker

// HasFailureAttributeForTest is hasFailureAttribute.
var HasFailureAttributeForTest = hasFailureAttribute
