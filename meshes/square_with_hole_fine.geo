// `square_with_hole`, finer: data for inverse problems come from here.
DefineConstant[ size = 0.019 ];
Include "square_with_hole.geo";
