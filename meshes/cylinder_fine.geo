// The same channel with shorter edges: data of problems that are solved on `cylinder`.
DefineConstant[ size = 0.045 ];
Include "cylinder.geo";
